"""Weight files as names, shapes and tensors, read so that a hostile file can do no harm.

Nothing here runs a pickle or believes a size before it is checked against the file. The host's own replacements of
``torch.load`` and ``safetensors.torch.load_file`` are not used: A1111's returns None for a refused file and Forge's
renames the file to ``*.corrupted``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.weights.keras_file import HDF5_START, KERAS_SUFFIXES, read_keras
from taesd_ext.weights.raw_tensors import BadFile, RawTensor, read_tensors
from taesd_ext.weights.safetensors_header import read_safetensors
from taesd_ext.weights.torch_file import STREAM_START, ZIP_START, read_torch_file

SAFETENSORS_SUFFIXES = (".safetensors", ".sft")
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = SAFETENSORS_SUFFIXES + PICKLE_SUFFIXES + KERAS_SUFFIXES

# DC-AE f128c512 has 4.5 GB; whole checkpoints that hold a VAE go up to 24 GB.
_LARGEST_FILE = 32 * 2**30

_CURE = "Download the file again, or take it out of the folder"


@dataclass(frozen=True)
class TensorFile:
    """A weight file whose header was read: shapes are known, tensors are loaded on demand."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    _read: Callable[[list[str]], list[Tensor]] = field(repr=False)

    def load(self, names: list[str]) -> dict[str, Tensor]:
        """The tensors of these names, on the CPU, in the file's own dtype. Raises TaesdError."""
        try:
            return dict(zip(names, self._read(names), strict=True))
        except BadFile as error:
            raise _unreadable(self.path, str(error)) from error
        except OSError as error:
            raise _cannot_read(self.path, error) from error


def open_tensor_file(path: Path | str) -> TensorFile:
    """Read a weight file's names and shapes.

    Raises TaesdError, one line: which file, what was expected, what to do.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise TaesdError(f"Cannot read {path}", "it is no file", "Check the path")
        with path.open("rb") as file:
            head = file.read(16)
        if size > _LARGEST_FILE:
            raise BadFile(f"it has {size:,} bytes, more than any known weight file")
        if head[:8] == HDF5_START:
            return _keras(path)
        if head.startswith((ZIP_START, STREAM_START)):
            return _file(path, read_torch_file(path, size), {})
        _refuse_text(head, size)
        return _file(path, *read_safetensors(path, size))
    except BadFile as error:
        raise _unreadable(path, str(error)) from error
    except OSError as error:
        raise _cannot_read(path, error) from error


def _file(path: Path, tensors: dict[str, RawTensor], metadata: dict[str, str]) -> TensorFile:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return TensorFile(path, shapes, metadata, lambda names: read_tensors(path, [tensors[name] for name in names]))


def _keras(path: Path) -> TensorFile:
    loaded = read_keras(path)
    shapes = {name: tuple(value.shape) for name, value in loaded.items()}
    return TensorFile(path, shapes, {}, lambda names: [loaded[name] for name in names])


def _refuse_text(head: bytes, size: int) -> None:
    """Say so when it is text. A safetensors file may begin with the same byte, but then the rest is a length."""
    if head.startswith(b"version http"):
        raise BadFile("it is a Git LFS pointer, not the weights themselves")
    if head.lstrip()[:1] in (b"<", b"{") and int.from_bytes(head[:8], "little") > size:
        raise BadFile("it is a web page or a text, not weights (a download that went wrong)")


def _cannot_read(path: Path, error: OSError) -> TaesdError:
    return TaesdError(f"Cannot read {path}", error.strerror or one_line(error), "Check the path")


def _unreadable(path: Path, why: str) -> TaesdError:
    return TaesdError(f"{path} is not a readable weight file", why, _CURE)
