"""PyTorch's files (``.pth``, ``.ckpt``, ``.bin``): what tensors lie in them and where, without running their pickle.

Both of torch.save's formats, the zip archive and the older stream. torch.load is not used, not even with
weights_only: a host may have replaced it, and in the torch versions of many WebUIs it can be made to run code
(CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10) or believes a storage's claimed size and reads beyond its end.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from taesd_ext.weights.pickle_data import Call, Name, Persistent, read_pickle
from taesd_ext.weights.raw_tensors import BadFile, RawTensor, Stretch

ZIP_START, STREAM_START = b"PK\x03\x04", b"\x80\x02"

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_TYPES = ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64", *_STORAGES.values())
_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_UNTYPED = Name("torch.storage", "UntypedStorage")

_UNDERSTOOD = {
    Name("collections", "OrderedDict"),
    _UNTYPED,
    *(Name("torch", name) for name in (*_STORAGES, *_TYPES)),
    *(Name("torch._utils", name) for name in _REBUILD),
}
# What training programs leave in honest checkpoints beside the weights: passed over.
_HARMLESS = {
    Name("torch", "Size"),
    Name("torch", "device"),
    Name("numpy", "dtype"),
    Name("numpy.core.multiarray", "scalar"),
    Name("numpy._core.multiarray", "scalar"),
    Name("_codecs", "encode"),
    Name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
}

_MOST_TENSORS = 20_000
# Tied weights lie in a file once; no network ties all of its weights four times.
_MOST_SHARED = 4
# A directory of 20,000 tensors has 2 MB.
_LARGEST_READ = 4 * 2**20

# What the older stream begins with, and its version. Source: torch/serialization.py.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_torch_file(path: Path, size: int) -> dict[str, RawTensor]:
    """Tensors by name, unread. Raises BadFile."""
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP_START
        file.seek(0)
        root, storages = _zip(file, size) if is_zip else _stream(file, size)
    if isinstance(root, dict) and isinstance(root.get("state_dict"), dict):
        root = root["state_dict"]
    if not isinstance(root, dict):
        raise BadFile("it holds no tensors by name")
    if len(root) > _MOST_TENSORS:
        raise BadFile(f"it holds {len(root):,} tensors")
    named = ((name, storages.tensor(value)) for name, value in root.items() if isinstance(name, str))
    found = {name: tensor for name, tensor in named if tensor}
    if not found:
        raise BadFile("it holds no tensors")
    if sum(tensor.byte_count for tensor in found.values()) > _MOST_SHARED * size:
        raise BadFile("its tensors use the same bytes many times over")
    return found


def _allowed(name: Name) -> bool:
    return name in _UNDERSTOOD or name in _HARMLESS


class _Storages:
    """The storages that lie in a file, by their key; checks what the pickle says of them."""

    def __init__(self, stretches: dict[str, Stretch]) -> None:
        self._stretches = stretches

    def tensor(self, value: Any) -> RawTensor | None:
        """The tensor that the calls in a pickle describe; None for anything else."""
        if not isinstance(value, Call) or not isinstance(value.function, Name):
            return None
        name, arguments = value.function.name, value.arguments
        if value.function.module != "torch._utils" or not isinstance(arguments, tuple) or not arguments:
            return None
        if name == "_rebuild_parameter":
            inner = arguments[0]
            return self.tensor(inner) if inner is not value and _is_rebuilt_tensor(inner) else None
        if len(arguments) < 4:
            raise BadFile("its pickle is damaged")
        storage, offset, shape, stride = arguments[:4]
        dtype = arguments[6] if name == "_rebuild_tensor_v3" and len(arguments) > 6 else None
        own, stretch = self._storage(storage)
        if not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise BadFile("its pickle is damaged")
        tensor = RawTensor(_type_of(dtype) if dtype else own, shape, stretch, stride, offset)
        tensor.check()
        return tensor

    def _storage(self, value: Any) -> tuple[torch.dtype, Stretch]:
        reference = value.reference if isinstance(value, Persistent) else None
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise BadFile("its pickle is damaged")
        _, kind, key, _, elements, *view = reference
        if view and view[0] is not None:
            raise BadFile("its storages are views of others")
        dtype = _storage_type(kind)
        stretch = self._stretches.get(key) if isinstance(key, str) else None
        if stretch is None:
            raise BadFile("it lacks the bytes of a tensor: it is cut off")
        if type(elements) is not int or elements * dtype.itemsize != stretch.length:
            raise BadFile("a tensor's claimed size does not fit its bytes")
        return dtype, stretch


def _is_rebuilt_tensor(value: Any) -> bool:
    return isinstance(value, Call) and value.function != Name("torch._utils", "_rebuild_parameter")


def _storage_type(kind: Any) -> torch.dtype:
    if kind == _UNTYPED:
        return torch.uint8
    if isinstance(kind, Name) and kind.name in _STORAGES:
        return getattr(torch, _STORAGES[kind.name])
    raise BadFile("its pickle is damaged")


def _type_of(name: Any) -> torch.dtype:
    dtype = getattr(torch, name.name, None) if isinstance(name, Name) and name.name in _TYPES else None
    if not isinstance(dtype, torch.dtype):
        raise BadFile("a tensor has a type that this version of PyTorch lacks")
    return dtype


class _SmallReads:
    """A file of which no single read brings much: zipfile reads a directory as large as it claims to be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int | None = -1) -> bytes:
        whole = count is None or count < 0
        if not whole and count > _LARGEST_READ:
            raise BadFile("its directory is too long")
        data = self._file.read(_LARGEST_READ + 1 if whole else count)
        if len(data) > _LARGEST_READ:
            raise BadFile("its directory is too long")
        return data

    def close(self) -> None:
        """The file is its owner's to close."""


def _zip(file: IO[bytes], size: int) -> tuple[Any, _Storages]:
    try:
        archive = zipfile.ZipFile(_SmallReads(file))  # type: ignore[arg-type]
    except BadFile:
        raise
    except Exception as error:
        raise BadFile("its archive is damaged or cut off") from error
    members = {}
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise BadFile("it is packed, which PyTorch never does: it may be an attack")
        if member.flag_bits & 1 or member.filename in members:
            raise BadFile("its archive is damaged")
        members[member.filename] = member
    if sum(member.file_size for member in members.values()) > size:
        raise BadFile("it unpacks to more than its own size: it is an attack")
    program = next((name for name in members if name.rpartition("/")[2] == "data.pkl"), None)
    if program is None:
        raise BadFile("it is an archive, but not one of PyTorch's")
    folder = program[: -len("data.pkl")]
    if (order := members.get(f"{folder}byteorder")) and _content(file, order, size) != b"little":
        raise BadFile("it was written on a machine with another order of bytes")
    root = read_pickle(io.BytesIO(_content(file, members[program], size)), _allowed)
    data = f"{folder}data/"
    stretches = {
        name[len(data) :]: _stretch(file, member, size) for name, member in members.items() if name.startswith(data)
    }
    return root, _Storages(stretches)


def _stretch(file: IO[bytes], member: zipfile.ZipInfo, size: int) -> Stretch:
    """Where a member's bytes lie: behind its local header, whose two lengths may differ from the directory's."""
    if not 0 <= member.header_offset < size:
        raise BadFile("its archive is damaged or cut off")
    file.seek(member.header_offset)
    header = file.read(30)
    if len(header) != 30 or header[:4] != ZIP_START:
        raise BadFile("its archive is damaged or cut off")
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = member.header_offset + 30 + name + extra
    if start + member.file_size > size:
        raise BadFile("its archive is damaged or cut off")
    return Stretch(start, member.file_size, member.CRC)


def _content(file: IO[bytes], member: zipfile.ZipInfo, size: int) -> bytes:
    """A small member's bytes."""
    if member.file_size > _LARGEST_READ:
        raise BadFile("its pickle is too long")
    file.seek(_stretch(file, member, size).start)
    return file.read(member.file_size)


def _stream(file: IO[bytes], size: int) -> tuple[Any, _Storages]:
    """The format before PyTorch 1.6: five pickles, then each storage's element count and bytes."""
    magic, protocol, system = (read_pickle(file, _allowed) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise BadFile("it is a pickle, but not one of PyTorch's")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise BadFile("it was written on a machine with another order of bytes")
    root = read_pickle(file, _allowed)
    keys = read_pickle(file, _allowed)
    if not isinstance(keys, list) or len(keys) > _MOST_TENSORS:
        raise BadFile("its pickle is damaged")
    widths = _element_sizes(root)
    stretches: dict[str, Stretch] = {}
    for key in keys:
        count = file.read(8)
        width = widths.get(key) if isinstance(key, str) else None
        length = int.from_bytes(count, "little", signed=True) * (width or 0)
        start = file.tell()
        if len(count) != 8 or width is None or length < 0 or start + length > size:
            raise BadFile("it is damaged or cut off")
        stretches[key] = Stretch(start, length)
        file.seek(start + length)
    return root, _Storages(stretches)


def _element_sizes(root: Any) -> dict[str, int]:
    """Storage key -> bytes of an element, from the storages that the pickle names."""
    sizes: dict[str, int] = {}
    waiting, seen = [root], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list, tuple)):
            if id(value) in seen:
                continue
            seen.add(id(value))
        if isinstance(value, Persistent):
            reference = value.reference
            if isinstance(reference, tuple) and len(reference) >= 5 and isinstance(reference[2], str):
                sizes[reference[2]] = _storage_type(reference[1]).itemsize
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return sizes
