"""Hostile weight files are refused before they can do anything: run code, take memory or time, open devices."""

import contextlib
import copy
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reading import ONE, assert_read_as, assert_refused, header, repack

from taesd_ext.errors import TaesdError
from taesd_ext.weights.inert_pickle import BadFile, InertUnpickler, PickleData
from taesd_ext.weights.tensor_file import open_tensor_file, regular_file_size
from taesd_ext.weights.torch_pickle import named_tensors


class Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"echo > {self.canary}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("where", ["alone", "beside", "inside"])
def test_canary_is_not_run(tmp_path: Path, where: str, zipped: bool) -> None:
    canary = tmp_path / "canary"
    attack = Attack(canary)
    content = {"alone": attack, "beside": {"1.weight": torch.ones(2), "x": attack}, "inside": {"a": [1, {"b": attack}]}}
    torch.save(content[where], tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert f"{os.name if os.name == 'posix' else 'nt'}.system" in assert_refused(tmp_path / "a.pth")
    assert not canary.exists()
    # The attack is a real one: torch's own unsafe reader would have run it.
    torch.serialization.load(tmp_path / "a.pth", weights_only=False)
    assert canary.exists()


NESTED = b")" + b"q\x00h\x00\x86" * 64
LONG_LIST = b"(" + b"N" * 100_000 + b"l"
LONG_TEXT = b"X" + struct.pack("<I", 10**6) + b"." * 10**6

REFUSED_PICKLES = [
    b"\x80\x02cos\nsystem\n.",
    b"\x80\x04\x96" + b"\xff" * 7 + b"\x0f.",
    b"\x80\x02X\xff\xff\xff\xff.",
    b"\x80\x02\x8b\xff\xff\xff\x7f.",
    b"L" + b"9" * 1_000_000 + b"\n.",
    b"\x80\x02\x82\x01.",
    b"\x80\x02]K\x01Q.",
    b"\x80\x05\x97.",
    b"N0" * 301_000 + b"N.",
    b"(" * 30_000,
    b"\x80\x04" + LONG_TEXT + b"q\0" + b"h\0h\0\x930" * 10_000 + b"N.",
    b"",
]
"""Claimed lengths of gigabytes, numbers of a million digits, the registry of copyreg, endless steps, a long text at
each of many steps."""

HARMLESS_PICKLES = {
    "depth": b"\x80\x02c__builtin__\nset\n)" + b"\x85" * 30_000 + b"\x81.",
    "tuple key": b"\x80\x02}" + NESTED + b"Ns.",
    "tuple in a set": b"\x80\x04\x8f(" + NESTED + b"\x90.",
    "frozen set": b"\x80\x04(" + NESTED + b"\x91.",
    "memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "state of a stand-in": b"\x80\x02ccollections\nOrderedDict\n}X\x08\x00\x00\x00__code__Nsb.",
    "call of a stand-in": b"\x80\x02cbuiltins\ngetattr\n(NNtR)R)R.",
    "long list": b"\x80\x02" + LONG_LIST + b"q\0ccollections\nOrderedDict\nq\1" + b"h\1h\0\x85R0" * 20_000 + b".",
}
"""A hash of tuples in tuples takes for ever; a memo place of four thousand million is 64 GB to the C reader."""


@pytest.mark.parametrize("program", [*REFUSED_PICKLES, *HARMLESS_PICKLES.values()])
def test_hostile_pickles_are_refused_or_do_no_harm(program: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(BadFile) if program in REFUSED_PICKLES else contextlib.nullcontext():
        InertUnpickler(PickleData(program)).load()
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_a_group_that_is_named_again_and_again_is_looked_through_once() -> None:
    group = b"}q\0(" + b"".join(b"U\x06%06dN" % number for number in range(20_000)) + b"u"
    outer = b"}(" + b"".join(b"U\x06%06dh\0" % number for number in range(20_000)) + b"u."
    assert named_tensors(InertUnpickler(PickleData(b"\x80\x02" + group + b"0" + outer)).load()) == {}


def bomb(path: Path) -> None:
    torch.save({"a": torch.zeros(5_000_000)}, path)
    repack(path, compression=zipfile.ZIP_DEFLATED)


def overlapping(path: Path) -> None:
    """Directory entries that share the same bytes claim more than the file has."""
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("a/data/0")
        archive.writestr("a/data/1", b"")
        for index in range(2, 50):
            twin = copy.copy(first)
            twin.filename = twin.orig_filename = f"a/data/{index}"
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin


def before_the_beginning(path: Path) -> None:
    repack(path)
    data = path.read_bytes()
    path.write_bytes(data[:-6] + struct.pack("<I", 10**6) + data[-2:])


def beyond_the_end(path: Path) -> None:
    with zipfile.ZipFile(path) as whole:
        members = {info: whole.read(info) for info in whole.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members.items():
            archive.writestr(info, content)
            archive.filelist[-1].header_offset = 2**63


def huge_directory(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
        for index in range(80):
            archive.writestr(f"archive/{index:060000}", b"")


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(torch.arange(1000.0).numpy().tobytes()[:64]) + 20] ^= 1
    path.write_bytes(data)


def of_one_storage(path: Path) -> None:
    """Small on the disk, large in memory: every tensor is the whole storage."""
    whole = torch.zeros(1_000_000)
    torch.save({f"{index}": whole[index:] for index in range(100)}, path)


def of_one_number(path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**5, 10**5)}, path)


def fewer_bytes_than_it_claims(path: Path) -> None:
    repack(path, {"data/0": b"\0" * 400})


@pytest.mark.parametrize(
    "spoil",
    [
        fewer_bytes_than_it_claims, bomb, overlapping, before_the_beginning, beyond_the_end, huge_directory, one_bit,
        of_one_storage, of_one_number,
    ],
)  # fmt: skip
def test_hostile_and_damaged_archives_are_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    spoil(tmp_path / "a.pth")
    tracemalloc.start()
    assert_refused(tmp_path / "a.pth")
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_a_number_may_be_a_small_tensor(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(100, 100)}, tmp_path / "a.pth")
    assert_read_as(tmp_path / "a.pth", {"a": torch.zeros(100, 100)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        header({"a": ONE}, b"1234", length=2**40),
        header({"a": ONE}, b"123"),
        header({"a": {**ONE, "shape": [2]}}, b"1234"),
        header({"a": {**ONE, "shape": [2**40, 2**40]}}, b"1234"),
        header({"a": {**ONE, "data_offsets": [4, 0]}}, b"1234"),
        header({"a": ONE, "b": ONE}, b"1234"),
        header(b'{"a":' * 100_000),
        header(b'{"a": ' + b"9" * 1_000_000 + b"}"),
        header([]),
        b"<!DOCTYPE html><html><body>Log in</body></html>",
        b'{"error": "Repository not found", "code": 404}',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    ],
)  # fmt: skip
def test_bad_headers(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    assert_refused(tmp_path / "a.safetensors")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """Nothing is read from a device without an end, and nobody waits for a pipe."""
    (tmp_path / "folder.pth").mkdir()
    strange = [tmp_path / "folder.pth", tmp_path / "absent.pth"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        (tmp_path / "link.pth").symlink_to("/dev/zero")
        strange += [tmp_path / "pipe.pth", tmp_path / "link.pth"]
    for path in strange:
        for read in (regular_file_size, open_tensor_file):
            with pytest.raises(TaesdError):
                read(path)
