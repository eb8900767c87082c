"""One half of a full-size VAE inside a weight file: which of the file's tensors make which of the network's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.tiny_file import build_frozen

Keys = dict[str, tuple[str, ...]]
"""The network's key -> the file's: several are laid one after the other (query, key, value -> qkv)."""


@dataclass(frozen=True)
class FullPart:
    """An encoder or a decoder of a full-size VAE inside a weight file."""

    file: TensorFile
    part: str
    network: Callable[[], nn.Module]
    """Makes the module, called under the meta device."""
    layout: str
    keys: Keys

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The module with its weights: on the CPU, frozen, in evaluation mode."""
        network = self._empty()
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        loaded = self.file.load(list(dict.fromkeys(name for names in self.keys.values() for name in names)))
        state = {key: _joined([loaded.pop(name) for name in self.keys[key]], shapes[key], dtype) for key in self.keys}
        return build_frozen(network, state)

    def check(self, own_prefixes: Iterable[str]) -> FullPart:
        """Itself, when the file has all that the network needs and, below these prefixes, nothing else.

        Raises TaesdError naming the first tensor that differs.
        """
        expected = {key: tuple(value.shape) for key, value in self._empty().state_dict().items()}
        for key in sorted(expected.keys() | self.keys.keys()):
            names = self.keys.get(key, ())
            found = [self.file.shapes.get(name) for name in names]
            if not found or None in found or key not in expected or not _fit(found, expected[key]):
                self._refuse(", ".join(names) or key, _words(found), expected.get(key, "nothing"))
        known = {name for names in self.keys.values() for name in names}
        prefixes = tuple(own_prefixes)
        for name, shape in self.file.shapes.items():
            if name.startswith(prefixes) and name not in known and not name.endswith("num_batches_tracked"):
                self._refuse(name, shape, "nothing")
        return self

    def _empty(self) -> nn.Module:
        with torch.device("meta"):
            return self.network()

    def _refuse(self, name: str, found: object, expected: object) -> None:
        raise TaesdError(
            f"{self.file.path} does not fit the {self.layout} layout of this VAE's {self.part}",
            f"at {name} it has {found} where {expected} was expected",
            "Download the file again, or take it out of the folder",
        )


def _fit(found: list[tuple[int, ...]], expected: tuple[int, ...]) -> bool:
    """Whether these tensors, laid one after the other, have this shape; a linear layer is a 1x1 convolution."""
    if any(_trimmed(shape)[1:] != _trimmed(expected)[1:] for shape in found):
        return False
    return sum(_trimmed(shape)[0] for shape in found) == _trimmed(expected)[0] if expected else found == [()]


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the ones at its end, at least one number."""
    shape = shape or (1,)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _words(found: list[tuple[int, ...] | None]) -> str:
    return ", ".join("nothing" if shape is None else str(shape) for shape in found) or "nothing"


def _joined(tensors: list[Tensor], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    dtype = dtype if tensors[0].is_floating_point() else tensors[0].dtype
    if len(tensors) == 1:
        return tensors[0].to(dtype, copy=True).reshape(shape)
    # Every piece is cast on its own way into the whole: one copy in all, and none of a piece.
    whole = torch.empty(math.prod(shape), dtype=dtype)
    start = 0
    for tensor in tensors:
        whole[start : start + tensor.numel()] = tensor.flatten()
        start += tensor.numel()
    return whole.reshape(shape)
