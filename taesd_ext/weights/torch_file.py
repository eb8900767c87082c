"""PyTorch's files (``.pth``, ``.ckpt``, ``.bin``): the tensors in them, without running their pickle.

Both of torch.save's formats, the zip archive and the older stream, and TorchScript's archive, of whose program only
the weights are read. torch.load is not used, not even with weights_only: a host may have replaced it, and in the torch
versions of many WebUIs it can be made to run code (CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10) or believes
a storage's claimed size and reads beyond its end.
"""

import errno
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from taesd_ext.weights.inert_pickle import LARGEST_PICKLE, BadFile, InertUnpickler, PickleData, Storage, UnusableFile
from taesd_ext.weights.torch_pickle import StoredTensor, named_tensors

ZIP_START = b"PK\x03\x04"
# torch.save's first object, from protocol 2 on and before. Source: torch/serialization.py.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_OLD_START = f"L{_MAGIC}L".encode()

MOST_TENSORS = 20_000
# Tied weights lie in a file once; no network ties all of its weights four times.
_MOST_SHARED, _SPARE_BYTES = 4, 16 * 2**20
# A directory of 20,000 tensors has 2 MB.
_LARGEST_DIRECTORY = 4 * 2**20
_LARGEST_END = 2**17

_Content = tuple[Any, dict[str, int], Callable[[Iterable[str]], Iterator[bytearray]]]
"""What lies in a file: the pickle's data, the storages' lengths by key, and what reads those of some keys."""


def is_torch_file(head: bytes) -> bool:
    """Whether a file that begins so is one of torch.save, or at least a pickle or an archive."""
    return head.startswith((ZIP_START, _OLD_START[:16])) or (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5")


def read_torch_file(path: Path, size: int) -> tuple[dict[str, tuple[int, ...]], Callable[[list[str]], list[Tensor]]]:
    """The shapes of the tensors by name, and what reads those of some names. Raises BadFile, as does what reads."""
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP_START
    root, lengths, read = _zip(path, size) if is_zip else _stream(path, size)
    found = named_tensors(root)
    if not found:
        raise UnusableFile("it holds no plain tensors by name")
    if len(found) > MOST_TENSORS:
        raise UnusableFile(f"it holds {len(found):,} tensors")
    for tensor in found.values():
        tensor.check(lengths.get(tensor.storage.key))
    if sum(tensor.byte_count for tensor in found.values()) > _MOST_SHARED * size + _SPARE_BYTES:
        raise BadFile("its tensors use the same bytes many times over")

    def load(names: list[str]) -> list[Tensor]:
        """Each with memory of its own, contiguous; a storage that several share is read once."""
        by_storage: dict[str, list[str]] = {}
        for name in names:
            by_storage.setdefault(found[name].storage.key, []).append(name)
        loaded = {
            name: _tensor(data, found[name])
            for sharing, data in zip(by_storage.values(), read(by_storage), strict=True)
            for name in sharing
        }
        return [loaded[name] for name in names]

    return {name: tensor.shape for name, tensor in found.items()}, load


def _tensor(data: bytearray, described: StoredTensor) -> Tensor:
    if not described.span:
        return torch.empty(described.shape, dtype=described.dtype)
    width = described.dtype.itemsize
    start, end = described.offset * width, (described.offset + described.span) * width
    flat = torch.frombuffer(data, dtype=torch.uint8)[start:end].view(described.dtype)
    return flat.as_strided(described.shape, described.stride).clone(memory_format=torch.contiguous_format)


class _Limited(io.FileIO):
    """A file of which no single read brings much: zipfile reads a directory as large as it claims to be."""

    limit = _LARGEST_DIRECTORY

    def read(self, count: int | None = -1) -> bytes:  # type: ignore[override]
        if count is None or count < 0:
            # zipfile reads so the last 64 KB alone.
            count = _LARGEST_END
        if count > self.limit:
            raise BadFile("its directory is too long")
        return super().read(count)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with _Limited(path) as file, zipfile.ZipFile(file) as archive:
            file.limit = path.stat().st_size
            members = archive.infolist()
            if not any(member.CRC for member in members):
                # As torch.serialization.set_crc32_options(False) writes it; without the attribute zipfile checks none.
                for member in members:
                    del member.CRC
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ArithmeticError, RuntimeError, ValueError,
            LookupError, OSError) as error:  # fmt: skip
        if isinstance(error, BadFile) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise
        is_checksum = "CRC" in str(error)
        why = "its content does not fit its own checksum" if is_checksum else "its archive is damaged or cut off"
        raise BadFile(why) from error


def _zip(path: Path, size: int) -> _Content:
    with _archive(path) as archive:
        members = archive.NameToInfo
        if len(members) != len(archive.filelist):
            raise BadFile("its archive is damaged")
        program = next((name for name in members if name.rpartition("/")[2] == "data.pkl"), None)
        if program is None:
            raise UnusableFile("it is an archive, but not one of torch.save")
        folder = program[: -len("data.pkl")]
        # A program's text is packed, and is never read.
        members = {name: member for name, member in members.items() if not name.startswith(f"{folder}code/")}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise BadFile("it is packed, which PyTorch never does with weights: it may be an attack")
        if sum(member.file_size for member in members.values()) > size:
            raise BadFile("it unpacks to more than its own size: it is an attack")
        order = f"{folder}byteorder"
        if order in members and _small(archive, order) != b"little":
            raise UnusableFile("it was written with another byte order")
        root = InertUnpickler(PickleData(_small(archive, program))).load()
        data = f"{folder}data/"
        lengths = {name[len(data) :]: info.file_size for name, info in members.items() if name.startswith(data)}

    def read(keys: Iterable[str]) -> Iterator[bytearray]:
        with _archive(path) as archive:
            for key in keys:
                yield bytearray(archive.read(data + key))

    return root, lengths, read


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_PICKLE:
        raise UnusableFile("its pickle is too long")
    return archive.read(name)


def _stream(path: Path, size: int) -> _Content:
    """The format before PyTorch 1.6: five pickles, then each storage's element count and bytes."""
    with path.open("rb") as file:
        head = PickleData(file.read(LARGEST_PICKLE))
        if InertUnpickler(head).load() != _MAGIC or InertUnpickler(head).load() != _PROTOCOL:
            raise UnusableFile("it is a pickle, but not one of torch.save")
        system = InertUnpickler(head).load()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise UnusableFile("it was written with another byte order")
        pickle = InertUnpickler(head)
        root = pickle.load()
        keys = InertUnpickler(head).load()
        starts, lengths = _storages_of_stream(file, head.tell(), size, keys, pickle.storages)

    def read(keys: Iterable[str]) -> Iterator[bytearray]:
        with path.open("rb") as file:
            for key in keys:
                file.seek(starts[key])
                data = bytearray(file.read(lengths[key]))
                if len(data) != lengths[key]:
                    raise BadFile("it was truncated while it was read")
                yield data

    return root, lengths, read


def _storages_of_stream(
    file: IO[bytes], position: int, size: int, keys: Any, storages: dict[str, Storage]
) -> tuple[dict[str, int], dict[str, int]]:
    """Start and length of each storage's bytes."""
    starts: dict[str, int] = {}
    lengths: dict[str, int] = {}
    if not isinstance(keys, list):
        raise BadFile("its pickle is damaged")
    for key in keys:
        file.seek(position)
        count = file.read(8)
        if len(count) != 8 or not isinstance(key, str) or key not in storages:
            raise BadFile("it is damaged or cut off")
        starts[key] = position + 8
        lengths[key] = int.from_bytes(count, "little", signed=True) * storages[key].dtype.itemsize
        position = starts[key] + lengths[key]
        if lengths[key] < 0 or position > size:
            raise BadFile("it is damaged or cut off")
    return starts, lengths
