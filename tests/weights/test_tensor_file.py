"""Weight files of all kinds are read exactly, and sound ones that cannot be used are not called damaged."""

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
from reading import ONE, assert_read_as, assert_refused, header, repack
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.weights.inert_pickle import UnusableFile
from taesd_ext.weights.tensor_file import open_tensor_file

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


@ZIPPED
@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64], ids=str)
def test_torch_files_are_read_exactly(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    try:
        torch.save(OrderedDict(tensors(dtype)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    except KeyError:
        pytest.skip(f"this torch cannot write {dtype}")
    assert_read_as(tmp_path / "a.pth", tensors(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_safetensors_are_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    contiguous = {name: value.contiguous() for name, value in tensors(dtype).items()}
    save_file(contiguous, tmp_path / "a.safetensors", {"made": "here", "": "\n", "json": '{"a": [1]}'})
    assert_read_as(tmp_path / "a.safetensors", contiguous)
    assert open_tensor_file(tmp_path / "a.safetensors").metadata["made"] == "here"


@ZIPPED
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_of_pickle(tmp_path: Path, protocol: int, zipped: bool) -> None:
    sets = {"set": {1, (2, (3,))}, "frozen": frozenset("a")}
    content = {"a": torch.arange(3.0), "epoch": 2**70, "bytes": bytearray(b"x"), **sets}
    path = tmp_path / "a.ckpt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_read_as(path, {"a": torch.arange(3.0)})


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
    assert_read_as(tmp_path / "a.ckpt", expected)


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
    repack(tmp_path / "a.pth", {"data.pkl": b"\x80\x02ccollections\nOrderedDict\n(((U\x01a" + value + b"tltR."})
    assert_read_as(tmp_path / "a.pth", {"a": torch.ones(2)})


def test_no_checksums_are_no_damage(tmp_path: Path) -> None:
    """torch.serialization.set_crc32_options(False) leaves zeros in their place."""
    torch.save({"a": torch.ones(5)}, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        for info in archive.infolist():
            data = data.replace(struct.pack("<II", info.CRC, info.file_size), struct.pack("<II", 0, info.file_size))
    (tmp_path / "a.pth").write_bytes(data)
    assert_read_as(tmp_path / "a.pth", {"a": torch.ones(5)})


@pytest.mark.parametrize("length", [0x7B, 0x280, 0x4B50, 0x480])
def test_header_whose_length_looks_like_another_format(tmp_path: Path, length: int) -> None:
    """Lengths that begin with "{" as a text, 80 02 as a pickle, PK as an archive."""
    raw = json.dumps({"a": ONE}).encode()
    (tmp_path / "a.safetensors").write_bytes(header(raw.ljust(length), b"\0\0\x80\x3f"))
    assert_read_as(tmp_path / "a.safetensors", {"a": torch.ones(1)})


def test_a_programs_weights_are_read_without_its_code(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 2)))
    module.register_buffer("mean", torch.ones(2))
    torch.jit.script(module).save(tmp_path / "a.pt")
    assert_read_as(tmp_path / "a.pt", module.state_dict())


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
        assert_refused(tmp_path / "a.pth", UnusableFile)


def archive_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        archive_of("pictures/a.png"),
        archive_of("script/constants.pkl"),
        b"GGUF\3\0\0\0" + bytes(100),
        pickle.dumps([1, 2, 3] * 10, protocol=4),
        header({"a": {**ONE, "dtype": "F3_NEW"}}, b"1234"),
        header({str(index): {**ONE, "shape": [0], "data_offsets": [0, 0]} for index in range(30_000)}),
        header({"__metadata__": {"a": "x" * 5_000_000}, "b": ONE}, b"1234"),
        header({"packed": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"x"),
    ],
    ids=["pictures", "program", "gguf", "pickle", "new type", "many", "talkative", "four bits"],
)
def test_other_formats_are_not_called_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    assert_refused(tmp_path / "a.bin", UnusableFile)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this torch has no numbers of four bits")
def test_packed_numbers_beside_plain_ones_are_left_out(tmp_path: Path) -> None:
    """The library gives such a tensor another shape than the header says."""
    content = header({"a": ONE, "packed": {"dtype": "F4", "shape": [2], "data_offsets": [4, 5]}}, b"\0\0\x80\x3fx")
    (tmp_path / "a.safetensors").write_bytes(content)
    assert_read_as(tmp_path / "a.safetensors", {"a": torch.ones(1)})


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    content = {"large": torch.zeros(30_000_000, dtype=torch.uint8), "small": torch.ones(3)}
    torch.save(content, tmp_path / "a.pth")
    save_file(content, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        tracemalloc.start()
        assert open_tensor_file(tmp_path / name).load(["small"])["small"].tolist() == [1, 1, 1]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


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
    with pytest.raises(TaesdError):
        file.load(["a"])


def test_replaced_loaders_of_hosts_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1111 replaces torch.load, Forge also safetensors' load_file, with functions that rename or hide bad files."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 not an archive")
    for name in ("torch.load", "safetensors.torch.load_file", "safetensors.torch.load", "pickle.loads"):
        monkeypatch.setattr(name, None)
    for name in ("a.pth", "a.safetensors"):
        assert_read_as(tmp_path / name, {"a": torch.ones(2)})
    assert_refused(tmp_path / "bad.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "a.safetensors", "bad.pth"]
