"""Weights of the TensorFlow port taesd-tf (Keras, ``.h5``) as those of the torch networks.

The port has the original's layers in the original's order, but names of its own and kernels as (height, width, in,
out). Keras numbers its layers as they are made, so the numbers give the order, and shapes are checked. Read are the
``.h5`` and whole-model ``.h5`` of Keras 2 and of Keras 3's legacy writer, and the ``.weights.h5`` of Keras 3.

HDF5 can point to other files and to itself: such pointers are not followed, and shapes are checked before a read.
Numbers are read only where they lie plainly in the file, never packed: its library unpacks without a limit. Attributes,
Keras' own lists of layers among them, are not read at all: the library takes 4 GB for a text that claims that length.
"""

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError, UnusableWeights, one_line
from taesd_ext.models import tiny
from taesd_ext.models.layers import Conv2d

KERAS_SUFFIXES = (".h5", ".hdf5")
HDF5_START = b"\x89HDF\r\n\x1a\n"

_START = 64  # bytes, with a driver's block among them in versions 0 and 1
_MOST_VISITED = 20_000  # groups and arrays; a tiny decoder of Keras 3 has about 300
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
        raise UnusableWeights(
            f"Cannot read {path}", "Keras weights need the package h5py", "pip install 'taesd-ext[keras]', or h5py"
        ) from error
    try:
        if (size := Path(path).stat().st_size) > _LARGEST_FILE:
            raise ValueError(f"it has {size:,} bytes")
        with Path(path).open("rb") as data:
            _check_start(data.read(_START))
        with h5py.File(path, "r") as file:
            return _state_of(*_network_for(_layers(h5py, file)))
    except (ValueError, OSError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        why = str(error) if type(error) is ValueError else one_line(error)
        raise TaesdError(f"{path} holds no tiny autoencoder of Keras", why, "Use taesd-tf's .h5 files") from error


def _check_start(head: bytes) -> None:
    """Raises ValueError for a file that brings a driver of its own, whose block may claim any size.

    Source: the HDF5 File Format Specification 3.0, II.A "Superblock".
    """
    if len(head) < _START:
        raise ValueError("it ends before its first block does")
    driver_at = 48 + 4 * head[8]
    if head[8] < 2 and head[driver_at : driver_at + 8] != b"\xff" * 8:
        raise ValueError("it has a block for a driver of its own")


def _layers(h5py: Any, file: Any) -> list[list[_Conv]]:
    """The convolutions of each top-level layer that has any, single ones and blocks in the order of each kind."""
    visited = itertools.count()

    def child(group: Any, name: str) -> Any:
        """What lies in a group, through the file's own hard links only."""
        if next(visited) >= _MOST_VISITED:
            raise ValueError("it holds too many groups")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name[:80]!r} is a link to elsewhere")
        return group[name]

    def convs(group: Any, depth: int) -> list[_Conv]:
        """Those below a group, in the order of the names' numbers."""
        if not isinstance(group, h5py.Group) or depth > _DEEPEST:
            raise ValueError("it holds numbers outside of layers, or groups without end")
        children = [child(group, name) for name in sorted(group, key=_natural)]
        arrays = [_checked(h5py, found) for found in children if not isinstance(found, h5py.Group)]
        below = [conv for found in children if isinstance(found, h5py.Group) for conv in convs(found, depth + 1)]
        return [*([_conv(arrays)] if arrays else []), *below]

    root = child(file, "model_weights") if "model_weights" in file else file
    for container in ("layers", "_layer_checkpoint_dependencies"):
        if container in root:
            root = child(root, container)
    layers = {name: found for name in sorted(root, key=_natural) if (found := convs(child(root, name), 0))}
    for single in (True, False):
        kinds = {_natural(name)[0] for name, found in layers.items() if (len(found) == 1) is single}
        if len(kinds) > 1:
            raise ValueError(f"its layers {' and '.join(sorted(kinds))[:80]} are not numbered in one order")
    return list(layers.values())


def _natural(name: str) -> tuple[str, int]:
    """ "conv2d" before "conv2d_1" before "conv2d_10" """
    match = re.fullmatch(r"(.*?)_?(\d{1,9})", name)
    return (match[1], int(match[2])) if match else (name, -1)


def _checked(h5py: Any, found: Any) -> Any:
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "f":
        raise ValueError(f"{found.name[:80]!r} is not an array of numbers")
    if found.external or found.is_virtual or found.chunks:
        raise ValueError(f"the numbers of {found.name[:80]!r} are packed or lie elsewhere")
    if found.size is None or found.size > _MOST_NUMBERS:
        raise ValueError(f"{found.name[:80]!r} claims {found.shape}")
    return found


def _conv(arrays: list[Any]) -> _Conv:
    """The kernel and the bias of one layer."""
    kernel, bias = (next((array for array in arrays if len(array.shape) == count), None) for count in (4, 1))
    if kernel is None or len(arrays) != 1 + (bias is not None):
        raise ValueError(f"{arrays[0].name[:80]!r} is of shape {arrays[0].shape}, part of no convolution")
    return _Conv(kernel, bias)


def _network_for(layers: list[list[_Conv]]) -> tuple[nn.Sequential, list[_Conv]]:
    """The network, without weights, and the file's convolutions in its order.

    Where single layers and blocks of three are told apart, each kind fills the network's places of that kind; a flat
    list is in order as it is.
    """
    singles = [layer[0] for layer in layers if len(layer) == 1]
    blocks = [layer for layer in layers if len(layer) == 3]
    if not singles or len(singles) + len(blocks) != len(layers):
        raise ValueError("its layers are not those of TAESD")
    first, last = singles[0].kernel.shape, singles[-1].kernel.shape
    with torch.device("meta"):
        network = tiny.Encoder(last[3]) if first[2] == 3 else tiny.Decoder(first[2])
    if not blocks:
        return network, singles
    ordered: list[_Conv] = []
    for part in network:
        if isinstance(part, (Conv2d, tiny.Block)):
            found = blocks if isinstance(part, tiny.Block) else singles
            ordered += found.pop(0) if found is blocks else [found.pop(0)]
    return network, [*ordered, *singles, *(conv for block in blocks for conv in block)]


def _state_of(network: nn.Sequential, convs: list[_Conv]) -> dict[str, Tensor]:
    wanted = {name: module for name, module in network.named_modules() if isinstance(module, Conv2d)}
    if len(convs) != len(wanted):
        raise ValueError(f"it has {len(convs)} convolutions where TAESD has {len(wanted)}")
    state: dict[str, Tensor] = {}
    for (name, module), conv in zip(wanted.items(), convs, strict=True):
        height, width, channels_in, channels_out = conv.kernel.shape
        found = (channels_out, channels_in, height, width), conv.bias is not None and conv.bias.shape
        if found != (tuple(module.weight.shape), module.bias is not None and tuple(module.bias.shape)):
            raise ValueError(
                f"{conv.kernel.name[:80]!r} is of shape {conv.kernel.shape}, which does not fit the place of {name}"
            )
        state[f"{name}.weight"] = torch.from_numpy(conv.kernel[()]).float().permute(3, 2, 0, 1).contiguous()
        if conv.bias is not None:
            state[f"{name}.bias"] = torch.from_numpy(conv.bias[()]).float()
    return state
