"""Weight files as names, shapes and tensors, read so that a hostile file can do no harm.

The host's own replacements of ``torch.load`` and ``safetensors.torch.load_file`` are not used: A1111's returns None for
a refused file and Forge's renames the file to ``*.corrupted``.
"""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from taesd_ext.errors import TaesdError, UnusableWeights, one_line
from taesd_ext.weights.inert_pickle import BadFile, UnusableFile
from taesd_ext.weights.keras_file import HDF5_START, KERAS_SUFFIXES, read_keras
from taesd_ext.weights.torch_file import MOST_TENSORS, is_torch_file, read_torch_file

SAFETENSORS_SUFFIXES = (".safetensors", ".sft")
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = SAFETENSORS_SUFFIXES + PICKLE_SUFFIXES + KERAS_SUFFIXES

# DC-AE f128c512 has 4.5 GB; whole checkpoints that hold a VAE go up to 24 GB.
_LARGEST_FILE = 32 * 2**30
# The header of an 8 GB checkpoint has about 0.3 MB.
_LARGEST_HEADER = 4 * 2**20
# Others pack several numbers into a byte; a checkpoint may have them beside a VAE of plain ones.
_DTYPES = {
    "F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL",
}  # fmt: skip


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
        except (BadFile, OSError) as error:
            raise _failure(self.path, error) from error


def regular_file_size(path: Path) -> int:
    """The size in bytes of a file that is safe to open. Raises TaesdError for a device, a pipe or a folder.

    /dev/zero has no end, and opening a pipe waits for somebody to write into it.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise _failure(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise TaesdError(f"Cannot read {path}", "it is not a regular file", "Check the path")
    return found.st_size


def open_tensor_file(path: Path | str) -> TensorFile:
    """Read a weight file's names and shapes.

    Raises TaesdError, one line: which file, what was expected, what to do.
    """
    path = Path(path)
    size = regular_file_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if size > _LARGEST_FILE:
            raise UnusableFile(f"it has {size:,} bytes, more than any known weight file")
        # The length of a header (8 bytes, little endian), then the header, which is JSON.
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
            return _safetensors(path)
        if head[:8] == HDF5_START:
            loaded = read_keras(path)
            shapes = {name: tuple(value.shape) for name, value in loaded.items()}
            return TensorFile(path, shapes, {}, lambda names: [loaded[name] for name in names])
        if is_torch_file(head):
            shapes, read = read_torch_file(path, size)
            return TensorFile(path, shapes, {}, read)
        raise _unknown(head)
    except (BadFile, OSError) as error:
        raise _failure(path, error) from error


def write_tensor_file(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, whole or not at all. Raises OSError; the library's own writer has an error of its own."""
    write_whole(path, save(tensors, metadata))


def write_whole(path: Path, content: bytes) -> None:
    """A file, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _safetensors(path: Path) -> TensorFile:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise UnusableFile(f"its header has {length:,} bytes")
    try:
        with safe_open(path, "pt") as opened:
            names = list(opened.keys())
            if len(names) > MOST_TENSORS:
                raise UnusableFile(f"it holds {len(names):,} tensors")
            slices = {name: opened.get_slice(name) for name in names}
            shapes = {name: tuple(of.get_shape()) for name, of in slices.items() if of.get_dtype() in _DTYPES}
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        raise _why_refused(path, error) from error
    if names and not shapes:
        raise UnusableFile("it holds no tensors of plain numbers")
    return TensorFile(path, shapes, metadata, lambda names: _read_safetensors(path, names))


def _read_safetensors(path: Path, names: list[str]) -> list[Tensor]:
    """Copies: what safe_open gives are views of the file, which somebody may change or remove."""
    try:
        with safe_open(path, "pt") as opened:
            return [opened.get_tensor(name).clone() for name in names]
    except (SafetensorError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise _why_refused(path, error) from error


def _why_refused(path: Path, error: Exception) -> BadFile:
    """What the library's words leave open: whether the file is damaged, or newer than the library."""
    if isinstance(error, BadFile):
        return error
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        types = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return BadFile("its header is damaged")
    if strange := sorted(str(name) for name in types - _DTYPES):
        return UnusableFile(f"it has tensors of the type {strange[0][:20]}, which cannot be read here")
    return BadFile(f"it is cut off or damaged ({str(error)[:100]})")


def _unknown(head: bytes) -> BadFile:
    if head.startswith(b"GGUF"):
        return UnusableFile("it is a GGUF file")
    if head.startswith(b"version http"):
        return BadFile("it is a Git LFS pointer, not the weights themselves")
    if head.lstrip()[:1] in (b"<", b"{"):
        return BadFile("it is a web page or a text, not weights (a download that went wrong)")
    return BadFile("it is neither a safetensors file nor a PyTorch file, or it is cut off")


def _failure(path: Path, error: Exception) -> TaesdError:
    if isinstance(error, UnusableFile):
        return UnusableWeights(f"{path} cannot be used", str(error), "Use a safetensors file of plain tensors instead")
    if isinstance(error, BadFile):
        why, cure = str(error), "Download the file again, or take it out of the folder"
        return TaesdError(f"{path} is not a readable weight file", why, cure)
    why = getattr(error, "strerror", None) or one_line(error)
    return TaesdError(f"Cannot read {path}", why, "Check the path")
