"""Weights of the TensorFlow port taesd-tf (Keras, ``.h5``) as those of the torch networks.

The port has the original's layers in the original's order, but names of its own and kernels as (height, width, in,
out). So layers are matched by their order and shapes; neither their names nor the file's name count. Read are the
``.h5`` and whole-model ``.h5`` of Keras 2 and of Keras 3's legacy writer, which list their layers in order, and the
``.weights.h5`` of Keras 3, which lists single layers and blocks apart, each in order.

HDF5 can point to other files and to itself: such pointers are not followed, and shapes are checked before a read.
Numbers are read only where they lie plainly in the file, never packed: its library unpacks without a limit. Texts are
read by hdf5_texts.py for the same reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.models import tiny
from taesd_ext.weights.hdf5_texts import LONGEST_TEXT, Hdf5Texts

KERAS_SUFFIXES = (".h5", ".hdf5")
HDF5_START = b"\x89HDF\r\n\x1a\n"

_MOST_GROUPS = 2_000  # a tiny decoder of Keras 3 has about 300
_MOST_NUMBERS = 2**22  # the largest kernel of these networks, 256x256x3x3, has 0.6 million
_DEEPEST = 12
_LARGEST_FILE = 2**27  # the largest tiny autoencoder, Sana's decoder in float32, has 33 MB


class _Conv(NamedTuple):
    """A convolution in a file: its kernel (height, width, in, out) and its bias, unread."""

    kernel: Any
    bias: Any | None


def read_keras(path: Path | str) -> dict[str, Tensor]:
    """The state dict of the tiny encoder or decoder in an HDF5 file, float32, under the original's keys.

    Raises TaesdError when h5py is missing, or when the file is damaged or holds another network.
    """
    try:
        import h5py
    except ImportError as error:
        raise TaesdError(
            f"Cannot read {path}", "Keras weights need the package h5py", "pip install 'taesd-ext[keras]', or h5py"
        ) from error
    try:
        if (size := Path(path).stat().st_size) > _LARGEST_FILE:
            raise ValueError(f"it has {size:,} bytes")
        with Path(path).open("rb") as data:
            texts = Hdf5Texts(data)
            with h5py.File(path, "r") as file:
                layers = _File(h5py, texts).layers(file)
                network = _network_for(layers)
                return _state_of(network, _in_order(network, layers))
    except (ValueError, OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        why = str(error) if type(error) is ValueError else one_line(error)
        raise TaesdError(f"{path} holds no tiny autoencoder of Keras", why, "Use taesd-tf's .h5 files") from error


class _File:
    """Finds the convolutions of each layer; counts what it visits."""

    def __init__(self, h5py: Any, texts: Hdf5Texts) -> None:
        self._h5py = h5py
        self._texts = texts
        self._visited = 0

    def layers(self, file: Any) -> list[list[_Conv]]:
        """The convolutions of each top-level layer that has any."""
        root = self._child(file, "model_weights") if "model_weights" in file else file
        if "layer_names" in root.attrs:
            found = [self._listed(self._child(root, name)) for name in self._list(root, "layer_names")]
        else:
            container = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in root), None)
            if container is None:
                raise ValueError("it has neither a list of layer names nor a group of layers")
            found = [self._nested(group, 0) for _, group in self._groups(self._child(root, container))]
        return [convs for convs in found if convs]

    def _listed(self, group: Any) -> list[_Conv]:
        names = self._list(group, "weight_names") if "weight_names" in group.attrs else []
        return _pair([self._dataset(group, name) for name in names])

    def _nested(self, group: Any, depth: int) -> list[_Conv]:
        if depth > _DEEPEST:
            raise ValueError("its groups are nested without end")
        variables = []
        if "vars" in group:
            holder = self._child(group, "vars")
            variables = [self._dataset(holder, name) for name in sorted(holder, key=_natural)]
        found = _pair(variables)
        for name, child in self._groups(group):
            if name != "vars":
                found += self._nested(child, depth + 1)
        return found

    def _groups(self, group: Any) -> Iterator[tuple[str, Any]]:
        for name in sorted(group, key=_natural):
            child = self._child(group, name)
            if isinstance(child, self._h5py.Group):
                yield name, child

    def _child(self, group: Any, path: str) -> Any:
        """What lies below a group, through the file's own hard links only."""
        for name in path.split("/"):
            self._visited += 1
            if self._visited > 10 * _MOST_GROUPS:
                raise ValueError("it holds too many groups")
            if not isinstance(group, self._h5py.Group) or name not in group:
                raise ValueError(f"it lacks {path[:80]!r}")
            if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
                raise ValueError(f"{path[:80]!r} is a link to elsewhere")
            group = group[name]
        return group

    def _list(self, group: Any, name: str) -> list[str]:
        """A list of texts among a group's attributes; what it claims is looked at before it is read."""
        stored = group.attrs.get_id(name)
        if len(stored.shape) != 1 or stored.shape[0] > _MOST_GROUPS or stored.dtype.itemsize > LONGEST_TEXT:
            raise ValueError(f"its list {name} claims {stored.shape} of {stored.dtype}")
        if not stored.shape[0]:  # then it has any type
            return []
        if self._h5py.check_string_dtype(stored.dtype) is None:
            raise ValueError(f"its list {name} holds no texts")
        if stored.dtype.kind == "O":
            address = self._h5py.h5o.get_info(group.id).addr
            return self._texts.attribute(address, name, stored.shape[0])
        return [value.decode() for value in group.attrs[name]]

    def _dataset(self, group: Any, path: str) -> Any:
        found = self._child(group, path)
        if not isinstance(found, self._h5py.Dataset) or found.dtype.kind != "f":
            raise ValueError(f"{path[:80]!r} is no array of numbers")
        if found.external or found.is_virtual or found.chunks:
            raise ValueError(f"the numbers of {path[:80]!r} are packed or lie elsewhere")
        if found.size is None or found.size > _MOST_NUMBERS:
            raise ValueError(f"{path[:80]!r} claims {found.shape}")
        return found


def _natural(name: str) -> tuple[str, int]:
    """ "conv2d" before "conv2d_1" before "conv2d_10" """
    match = re.fullmatch(r"(.*?)_?(\d{1,9})", name)
    return (match[1], int(match[2])) if match else (name, -1)


def _pair(variables: list[Any]) -> list[_Conv]:
    """Each kernel with the bias that follows it."""
    convs: list[_Conv] = []
    for variable in variables:
        if len(variable.shape) == 4:
            convs.append(_Conv(variable, None))
        elif len(variable.shape) == 1 and convs and convs[-1].bias is None:
            convs[-1] = convs[-1]._replace(bias=variable)
        else:
            raise ValueError(f"{variable.name[:80]!r} is of shape {variable.shape}, part of no convolution")
    return convs


def _network_for(layers: list[list[_Conv]]) -> nn.Sequential:
    """The network, without weights, that such a picture's and such a latent's channels ask for."""
    if not layers:
        raise ValueError("it holds no layers with weights")
    convs = [conv for layer in layers for conv in layer]
    inputs = {conv.kernel.shape[2] for conv in convs}
    outputs = {conv.kernel.shape[3] for conv in convs}
    wide = inputs & outputs
    with torch.device("meta"):
        if 3 in inputs and len(latent := outputs - wide) == 1:
            return tiny.Encoder(latent.pop())
        if 3 in outputs and len(latent := inputs - wide) == 1:
            return tiny.Decoder(latent.pop())
    raise ValueError("its layers are not those of TAESD")


def _in_order(network: nn.Sequential, layers: list[list[_Conv]]) -> list[_Conv]:
    """The file's convolutions in the network's order.

    Where single layers and blocks of three are told apart, each kind fills the network's places of that kind; a flat
    list is in order as it is.
    """
    singles = [layer[0] for layer in layers if len(layer) == 1]
    blocks = [layer for layer in layers if len(layer) == 3]
    places = [part for part in network if isinstance(part, (nn.Conv2d, tiny.Block))]
    blocks_wanted = sum(isinstance(part, tiny.Block) for part in places)
    if (len(singles), len(blocks)) != (len(places) - blocks_wanted, blocks_wanted):
        return [conv for layer in layers for conv in layer]
    ordered: list[_Conv] = []
    for part in places:
        ordered += [singles.pop(0)] if isinstance(part, nn.Conv2d) else blocks.pop(0)
    return ordered


def _state_of(network: nn.Sequential, convs: list[_Conv]) -> dict[str, Tensor]:
    wanted = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    if len(convs) != len(wanted):
        raise ValueError(f"it has {len(convs)} convolutions where TAESD has {len(wanted)}")
    state: dict[str, Tensor] = {}
    for (name, module), conv in zip(wanted.items(), convs, strict=True):
        height, width, channels_in, channels_out = conv.kernel.shape
        found = (channels_out, channels_in, height, width), conv.bias is not None
        if found != (tuple(module.weight.shape), module.bias is not None):
            raise ValueError(
                f"{conv.kernel.name[:80]!r} is of shape {conv.kernel.shape}, which does not fit the place of {name}"
            )
        state[f"{name}.weight"] = torch.from_numpy(conv.kernel[()]).float().permute(3, 2, 0, 1).contiguous()
        if conv.bias is not None:
            if conv.bias.shape != (channels_out,):
                raise ValueError(f"{conv.bias.name[:80]!r} is of shape {conv.bias.shape}")
            state[f"{name}.bias"] = torch.from_numpy(conv.bias[()]).float()
    return state
