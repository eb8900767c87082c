"""Weight files as names, shapes and tensors, read so that a hostile file can do no harm.

Nothing here unpickles objects: ``.safetensors`` is opened by its library, a pickle only by torch's weights-only
reader. The host's own replacements of ``torch.load`` and ``safetensors.torch.load_file`` are not used: A1111's returns
None for a refused file and Forge's renames the file to ``*.corrupted``.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.weights.keras_file import HDF5_START, KERAS_SUFFIXES, read_keras

SAFETENSORS_SUFFIXES = (".safetensors", ".sft")
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = SAFETENSORS_SUFFIXES + PICKLE_SUFFIXES + KERAS_SUFFIXES

# The header of the largest file in the catalogue (an 8 GB checkpoint) has about 0.3 MB.
_LARGEST_HEADER = 16 * 2**20
# DC-AE f128c512 has 4.5 GB; whole checkpoints that hold a VAE go up to 24 GB.
_LARGEST_FILE = 32 * 2**30
_MOST_TENSORS = 20_000

_CURE = "Download the file again, or take it out of the folder"


@dataclass(frozen=True)
class TensorFile:
    """A weight file whose header was read: shapes are known, tensors are loaded on demand."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str] = field(default_factory=dict)
    _loaded: dict[str, Tensor] | None = field(default=None, repr=False)

    def load(self, names: list[str]) -> dict[str, Tensor]:
        """The tensors of these names, on the CPU, in the file's own dtype."""
        if self._loaded is not None:
            return {name: self._loaded[name] for name in names}
        try:
            with safetensors.safe_open(str(self.path), framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in names}
        except Exception as error:
            raise _unreadable(self.path, one_line(error)) from error


def open_tensor_file(path: Path | str) -> TensorFile:
    """Read a weight file's names and shapes.

    Raises TaesdError, one line: which file, what was expected, what to do.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise TaesdError(f"Cannot read {path}", error.strerror or one_line(error), "Check the path") from error
    if size > _LARGEST_FILE:
        raise _unreadable(path, f"it has {size:,} bytes, more than any known weight file")
    if head[:1] in (b"<", b"{") or head[:5].lower() in (b"<!doc", b"<html"):
        raise _unreadable(path, "it is a web page or a text, not weights (a download that went wrong)")
    if head.startswith(b"version "):
        raise _unreadable(path, "it is a Git LFS pointer, not the weights themselves")
    if head == HDF5_START:
        loaded = read_keras(path)
        return TensorFile(path, {name: tuple(value.shape) for name, value in loaded.items()}, {}, loaded)
    is_pickle = head[:2] in (b"PK", b"\x80\x02")
    return _open_pickle(path) if is_pickle else _open_safetensors(path, size, head)


def _open_safetensors(path: Path, size: int, head: bytes) -> TensorFile:
    header = int.from_bytes(head, "little")
    if len(head) < 8 or header > min(_LARGEST_HEADER, size - 8):
        raise _unreadable(path, "it is neither a safetensors file nor a PyTorch file, or it is cut off")
    try:
        with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
            names = list(file.keys())
            if len(names) > _MOST_TENSORS:
                raise _unreadable(path, f"it holds {len(names):,} tensors")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return TensorFile(path, shapes, dict(file.metadata() or {}))
    except TaesdError:
        raise
    except Exception as error:
        raise _unreadable(path, f"it is damaged or cut off ({one_line(error)})") from error


def _open_pickle(path: Path) -> TensorFile:
    try:
        with path.open("rb") as file:
            _refuse_zip_bomb(path)
            # torch.serialization.load is torch's own function even where a host has replaced torch.load.
            loaded = torch.serialization.load(file, map_location="cpu", weights_only=True)
    except TaesdError:
        raise
    except Exception as error:
        why = f"PyTorch's safe reader refuses it ({one_line(error)[:200]})"
        raise _unreadable(path, why) from error
    tensors = _tensors_of(loaded)
    if not tensors:
        raise _unreadable(path, "it holds no tensors")
    if len(tensors) > _MOST_TENSORS:
        raise _unreadable(path, f"it holds {len(tensors):,} tensors")
    return TensorFile(path, {name: tuple(value.shape) for name, value in tensors.items()}, {}, tensors)


def _refuse_zip_bomb(path: Path) -> None:
    """PyTorch stores its members uncompressed: a member that claims to be larger than the file is an attack."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > path.stat().st_size:
        raise _unreadable(path, "it unpacks to more than its own size")


def _tensors_of(loaded: object) -> dict[str, Tensor]:
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        return {}
    return {
        name: value.detach()
        for name, value in loaded.items()
        if isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    }


def _unreadable(path: Path, why: str) -> TaesdError:
    return TaesdError(f"{path} is not a readable weight file", why, _CURE)
