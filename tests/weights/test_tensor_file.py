"""Weight files of all kinds read exactly; hostile ones are refused before they can do anything."""

import contextlib
import copy
import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.weights.inert_pickle import BadFile, InertUnpickler, PickleData, UnusableFile
from taesd_ext.weights.tensor_file import open_tensor_file, regular_file_size
from taesd_ext.weights.torch_pickle import named_tensors

DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.uint8, torch.bool,
]  # fmt: skip
ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


def tensors(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "transposed": torch.arange(12).reshape(3, 4).to(dtype).t(),
        "channels_last": torch.arange(24).reshape(2, 3, 2, 2).to(dtype).to(memory_format=torch.channels_last),
        "view": torch.arange(10).to(dtype)[3:7],
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.zeros(0, 3).to(dtype),
    }


def read_all(path: Path) -> dict[str, Tensor]:
    file = open_tensor_file(path)
    return file.load(list(file.shapes))


def same(path: Path, expected: dict[str, Tensor]) -> None:
    found = read_all(path)
    assert open_tensor_file(path).shapes == {name: tuple(value.shape) for name, value in expected.items()}
    for name, value in found.items():
        assert value.dtype == expected[name].dtype
        assert value.is_contiguous()
        assert torch.equal(value.reshape(-1).view(torch.uint8), expected[name].detach().reshape(-1).view(torch.uint8))


def refused(path: Path, reason: type[Exception] = BadFile) -> str:
    """The one line of the refusal: ``UnusableFile`` for what is sound, ``BadFile`` for what is not."""
    with pytest.raises(TaesdError) as caught:
        read_all(path)
    line = str(caught.value)
    assert type(caught.value.__cause__) is reason, line
    assert "\n" not in line
    assert path.name in line
    return line


@ZIPPED
@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64], ids=str)
def test_torch_files_are_read_exactly(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    try:
        torch.save(OrderedDict(tensors(dtype)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    except KeyError:
        pytest.skip(f"this torch cannot write {dtype}")
    same(tmp_path / "a.pth", tensors(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_safetensors_are_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    contiguous = {name: value.contiguous() for name, value in tensors(dtype).items()}
    save_file(contiguous, tmp_path / "a.safetensors", {"made": "here", "": "\n", "json": '{"a": [1]}'})
    same(tmp_path / "a.safetensors", contiguous)
    assert open_tensor_file(tmp_path / "a.safetensors").metadata["made"] == "here"


@ZIPPED
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_of_pickle(tmp_path: Path, protocol: int, zipped: bool) -> None:
    sets = {"set": {1, (2, (3,))}, "frozen": frozenset("a")}
    content = {"a": torch.arange(3.0), "epoch": 2**70, "bytes": bytearray(b"x"), **sets}
    path = tmp_path / "a.ckpt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    same(path, {"a": torch.arange(3.0)})


class Callback:
    """Of a package that is not installed where the file is read; see its use."""

    def __init__(self) -> None:
        self.best = torch.tensor(1.0)


class Names(dict):  # type: ignore[type-arg]
    """A dict of a training program's own."""


@ZIPPED
def test_what_training_programs_leave_beside_the_weights(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning before 1.5 has classes as keys; others have NumPy's scalars, paths, optimizers."""
    gone = types.ModuleType("training_program")
    for kind in (Callback, Names):
        monkeypatch.setattr(kind, "__module__", gone.__name__)
        setattr(gone, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, gone.__name__, gone)
    tied = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    noted = nn.Parameter(torch.arange(3.0))
    noted.note = "one's own"  # type: ignore[attr-defined]
    expected = Names(a=tied, b=tied, c=noted.data)
    content = {
        "callbacks": {Callback: {"best": numpy.float64(0.5), "score": Callback()}, (1, (2, "x")): None},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": tied.data * 2}}, "param_groups": [{"params": [0]}]}],
        "hparams": OrderedDict(path=tmp_path, device=torch.device("cuda", 0), array=numpy.ones(2)),
        "state_dict": expected, "bytes": b"\xff\0", "epoch": 5, "lr": 1e-4, "range": range(3), "type": torch.float16,
    }  # fmt: skip
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, gone.__name__)
    same(tmp_path / "a.ckpt", expected)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"params_ema": {"w": torch.ones(1)}, "epoch": 3}, ["w"]),
        ({"encoder": {"w": torch.ones(1)}, "decoder": {"w": torch.ones(1)}}, ["encoder.w", "decoder.w"]),
        ({"state_dict": {"w": torch.ones(1)}, "ema": {"w": torch.ones(1)}}, ["w"]),
        (nn.Sequential(nn.Conv2d(3, 4, 3)).state_dict(), ["0.weight", "0.bias"]),
    ],
)
def test_where_the_weights_lie_in_a_torch_file(tmp_path: Path, content: object, names: list[str]) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert list(open_tensor_file(tmp_path / "a.pth").shapes) == names


def test_ordered_dict_of_python_2(tmp_path: Path) -> None:
    """There its pickle gives the entries as a list of lists, and texts are bytes."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        program = archive.read("a/data.pkl")
    value = program[program.index(b"ctorch._utils") : -2]
    repacked(tmp_path / "a.pth", {"data.pkl": b"\x80\x02ccollections\nOrderedDict\n(((U\x01a" + value + b"tltR."})
    same(tmp_path / "a.pth", {"a": torch.ones(2)})


def test_no_checksums_are_no_damage(tmp_path: Path) -> None:
    """torch.serialization.set_crc32_options(False) leaves zeros in their place."""
    torch.save({"a": torch.ones(5)}, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        for info in archive.infolist():
            data = data.replace(struct.pack("<II", info.CRC, info.file_size), struct.pack("<II", 0, info.file_size))
    (tmp_path / "a.pth").write_bytes(data)
    same(tmp_path / "a.pth", {"a": torch.ones(5)})


@pytest.mark.parametrize("length", [0x7B, 0x280, 0x4B50, 0x480])
def test_header_whose_length_looks_like_another_format(tmp_path: Path, length: int) -> None:
    """Lengths that begin with "{" as a text, 80 02 as a pickle, PK as an archive."""
    raw = json.dumps({"a": ONE}).encode()
    (tmp_path / "a.safetensors").write_bytes(header(raw.ljust(length), b"\0\0\x80\x3f"))
    same(tmp_path / "a.safetensors", {"a": torch.ones(1)})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
        {"a": torch.ones(2, 2).to_sparse()},
        {"a": torch.ones(2, device="meta")},
        nn.Linear(2, 2), {"a": 1}, {}, [torch.ones(1)], 5,
    ],
    ids=["quantised", "sparse", "meta", "module", "number", "empty", "list", "five"],
)  # fmt: skip
def test_sound_files_that_cannot_be_used_are_not_called_damaged(tmp_path: Path, content: object) -> None:
    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        refused(tmp_path / "a.pth", UnusableFile)


def test_a_programs_weights_are_read_without_its_code(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 2)))
    module.register_buffer("mean", torch.ones(2))
    torch.jit.script(module).save(tmp_path / "a.pt")
    same(tmp_path / "a.pt", module.state_dict())


def test_other_formats_are_not_called_damaged(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    for name in ("pictures/a.png", "script/constants.pkl"):
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, b"x")
        (tmp_path / "a.bin").write_bytes(buffer.getvalue())
        refused(tmp_path / "a.bin", UnusableFile)
    new = header({"a": {**ONE, "dtype": "F3_NEW"}}, b"1234")
    many = header({str(index): {**ONE, "shape": [0], "data_offsets": [0, 0]} for index in range(30_000)})
    talkative = header({"__metadata__": {"a": "x" * 5_000_000}, "b": ONE}, b"1234")
    for content in (b"GGUF\3\0\0\0" + bytes(100), pickle.dumps([1, 2, 3] * 10, protocol=4), new, many, talkative):
        (tmp_path / "a.bin").write_bytes(content)
        refused(tmp_path / "a.bin", UnusableFile)


def test_packed_numbers_beside_plain_ones_are_left_out(tmp_path: Path) -> None:
    """Four bits a number: the library gives such a tensor another shape than the header says."""
    packed = {"dtype": "F4", "shape": [2], "data_offsets": [4, 5]}
    (tmp_path / "a.safetensors").write_bytes(header({"packed": packed}, b"x").replace(b"[4, 5]", b"[0, 1]"))
    refused(tmp_path / "a.safetensors", UnusableFile)
    if hasattr(torch, "float4_e2m1fn_x2"):
        (tmp_path / "a.safetensors").write_bytes(header({"a": ONE, "packed": packed}, b"\0\0\x80\x3fx"))
        same(tmp_path / "a.safetensors", {"a": torch.ones(1)})


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    content = {"large": torch.zeros(30_000_000, dtype=torch.uint8), "small": torch.ones(3)}
    torch.save(content, tmp_path / "a.pth")
    save_file(content, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        tracemalloc.start()
        assert open_tensor_file(tmp_path / name).load(["small"])["small"].tolist() == [1, 1, 1]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


class Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"echo > {self.canary}",)


@ZIPPED
@pytest.mark.parametrize("where", ["alone", "beside", "inside"])
def test_canary_is_not_run(tmp_path: Path, where: str, zipped: bool) -> None:
    canary = tmp_path / "canary"
    attack = Attack(canary)
    content = {"alone": attack, "beside": {"1.weight": torch.ones(2), "x": attack}, "inside": {"a": [1, {"b": attack}]}}
    torch.save(content[where], tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert f"{os.name if os.name == 'posix' else 'nt'}.system" in refused(tmp_path / "a.pth")
    assert not canary.exists()
    # The attack is a real one: torch's own unsafe reader would have run it.
    torch.serialization.load(tmp_path / "a.pth", weights_only=False)
    assert canary.exists()


NESTED = b")" + b"q\x00h\x00\x86" * 64


REFUSED_PICKLES = [
    b"\x80\x02cos\nsystem\n.",
    b"\x80\x04\x96" + b"\xff" * 7 + b"\x0f.",
    b"\x80\x02X\xff\xff\xff\xff.",
    b"\x80\x02\x8b\xff\xff\xff\x7f.",
    b"L" + b"9" * 1_000_000 + b"\n.",
    b"\x80\x02\x82\x01.",
    b"\x80\x02]K\x01Q.",
    b"\x80\x05\x97.",
    b"N0" * 400_000 + b"N.",
    b"(" * 100_000,
    b"",
]
"""Claimed lengths of gigabytes, numbers of a million digits, the registry of copyreg, endless steps."""

HARMLESS_PICKLES = {
    "depth": b"\x80\x02c__builtin__\nset\n)" + b"\x85" * 100_000 + b"\x81.",
    "tuple key": b"\x80\x02}" + NESTED + b"Ns.",
    "tuple in a set": b"\x80\x04\x8f(" + NESTED + b"\x90.",
    "frozen set": b"\x80\x04(" + NESTED + b"\x91.",
    "memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "state of a stand-in": b"\x80\x02ccollections\nOrderedDict\n}X\x08\x00\x00\x00__code__Nsb.",
    "call of a stand-in": b"\x80\x02cbuiltins\ngetattr\n(NNtR)R)R.",
}
"""A hash of tuples in tuples takes for ever; a memo place of four thousand million is 64 GB to the C reader."""


@pytest.mark.parametrize("program", [*REFUSED_PICKLES, *HARMLESS_PICKLES.values()])
def test_hostile_pickles_are_refused_or_do_no_harm(program: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(BadFile) if program in REFUSED_PICKLES else contextlib.nullcontext():
        InertUnpickler(PickleData(program)).load()
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_no_step_of_a_pickle_costs_more_than_its_own_bytes() -> None:
    """A list, a text and a dict that are long once and used at every step after."""
    entries = b"(" + b"N" * 100_000 + b"l"
    called = b"\x80\x02" + entries + b"q\0ccollections\nOrderedDict\nq\1" + b"h\1h\0\x85R0" * 60_000 + b"."
    InertUnpickler(PickleData(called)).load()
    name = b"X" + struct.pack("<I", 10**6) + b"." * 10**6
    with pytest.raises(BadFile):
        InertUnpickler(PickleData(b"\x80\x04" + name + b"q\0" + b"h\0h\0\x930" * 10_000 + b"N.")).load()
    group = b"}q\0(" + b"".join(b"U\x06%06dN" % number for number in range(60_000)) + b"u"
    outer = b"}(" + b"".join(b"U\x06%06dh\0" % number for number in range(60_000)) + b"u."
    assert named_tensors(InertUnpickler(PickleData(b"\x80\x02" + group + b"0" + outer)).load()) == {}


def repacked(path: Path, change: dict[str, bytes] | None = None, **options: int) -> None:
    """Write a zip-format file again with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in list(members):
        for end, content in (change or {}).items():
            if name.endswith(end):
                members[name] = content
    with zipfile.ZipFile(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            archive.writestr(name, content)


def bomb(path: Path) -> None:
    torch.save({"a": torch.zeros(5_000_000)}, path)
    repacked(path, compression=zipfile.ZIP_DEFLATED)


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
    repacked(path)
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


ARCHIVES = {
    "fewer bytes than it claims": (lambda path: repacked(path, {"data/0": b"\0" * 400}), "claimed size"),
    "bomb": (bomb, "packed"),
    "overlapping": (overlapping, "own size"),
    "before the beginning": (before_the_beginning, ""),
    "beyond the end": (beyond_the_end, ""),
    "huge directory": (huge_directory, "directory"),
    "one bit": (one_bit, "checksum"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_and_damaged_archives_are_refused(tmp_path: Path, kind: str) -> None:
    spoil, words = ARCHIVES[kind]
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    spoil(tmp_path / "a.pth")
    tracemalloc.start()
    assert words in refused(tmp_path / "a.pth")
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_many_tensors_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """Small on the disk, large in memory: every tensor is the whole storage, or one number is a whole tensor."""
    whole = torch.zeros(1_000_000)
    for content in ({f"{index}": whole[index:] for index in range(100)}, {"a": torch.zeros(1).expand(10**5, 10**5)}):
        torch.save(content, tmp_path / "a.pth")
        assert "many times over" in refused(tmp_path / "a.pth")
    torch.save({"a": torch.zeros(1).expand(100, 100)}, tmp_path / "a.pth")
    same(tmp_path / "a.pth", {"a": torch.zeros(100, 100)})


def header(content: object, body: bytes = b"", length: int | None = None) -> bytes:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


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
    refused(tmp_path / "a.safetensors")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """Nothing is read from a device without an end, and nobody waits for a pipe."""
    (tmp_path / "folder.pth").mkdir()
    strange = [tmp_path / "folder.pth", tmp_path / "absent.pth"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        (tmp_path / "link.pth").symlink_to("/dev/zero")
        strange += [tmp_path / "pipe.pth", tmp_path / "link.pth"]
    for path in strange:
        with pytest.raises(TaesdError, match="Cannot read"):
            regular_file_size(path)
        with pytest.raises(TaesdError, match="Cannot read"):
            open_tensor_file(path)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be changed there")
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_file_that_shrinks_or_vanishes_after_it_was_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (torch.save if path.suffix == ".pth" else save_file)({"a": torch.ones(5000)}, path)
    file = open_tensor_file(path)
    loaded = file.load(["a"])["a"]
    os.truncate(path, path.stat().st_size // 2)
    assert torch.equal(loaded, torch.ones(5000)), "it is a copy"
    with pytest.raises(TaesdError):
        file.load(["a"])
    path.unlink()
    with pytest.raises(TaesdError, match="Cannot read"):
        file.load(["a"])


def test_replaced_loaders_of_hosts_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1111 replaces torch.load, Forge also safetensors' load_file, with functions that rename or hide bad files."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    for module, names in (("torch", ("load",)), ("safetensors.torch", ("load_file", "load")), ("pickle", ("loads",))):
        for name in names:
            monkeypatch.setattr(sys.modules[module], name, None)
    same(tmp_path / "a.pth", {"a": torch.ones(2)})
    same(tmp_path / "a.safetensors", {"a": torch.ones(2)})
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 not an archive")
    refused(tmp_path / "bad.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "a.safetensors", "bad.pth"]
