"""Weight files of all kinds read exactly, and hostile ones refused before they can do anything."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.weights.tensor_file import open_tensor_file

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


def tensors(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "transposed": torch.arange(12).reshape(3, 4).to(dtype).t(),
        "channels_last": torch.arange(24).reshape(2, 3, 2, 2).to(dtype).to(memory_format=torch.channels_last),
        "view": torch.arange(10).to(dtype)[3:7],
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
    }


def same(path: Path, expected: dict[str, Tensor]) -> None:
    file = open_tensor_file(path)
    assert file.shapes == {name: tuple(value.shape) for name, value in expected.items()}
    for name, value in file.load(list(file.shapes)).items():
        assert value.dtype == expected[name].dtype
        assert torch.equal(value, expected[name].detach())
        assert value.is_contiguous()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torch_files_are_read_exactly(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    torch.save(OrderedDict(tensors(dtype)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    same(tmp_path / "a.pth", tensors(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_safetensors_are_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    contiguous = {name: value.contiguous() for name, value in tensors(dtype).items()}
    save_file(contiguous, tmp_path / "a.safetensors", {"made": "here"})
    same(tmp_path / "a.safetensors", contiguous)
    assert open_tensor_file(tmp_path / "a.safetensors").metadata == {"made": "here"}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_checkpoints_of_training_programs(tmp_path: Path, zipped: bool) -> None:
    """Parameters below "state_dict", with numbers, texts, sizes and tied weights beside them."""
    tied = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    content = {"state_dict": OrderedDict(a=tied, b=tied), "epoch": 5, "lr": 1e-4, "size": torch.Size([1]), "big": 2**70}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    same(tmp_path / "a.ckpt", {"a": tied, "b": tied})


def test_module_state_dict(tmp_path: Path) -> None:
    """It carries _metadata, which the pickle sets as an attribute."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    torch.save(module.state_dict(), tmp_path / "a.pth")
    same(tmp_path / "a.pth", dict(module.state_dict()))


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    torch.save({"large": torch.zeros(30_000_000, dtype=torch.uint8), "small": torch.ones(3)}, tmp_path / "a.pth")
    save_file({"large": torch.zeros(30_000_000, dtype=torch.uint8), "small": torch.ones(3)}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        tracemalloc.start()
        assert open_tensor_file(tmp_path / name).load(["small"])["small"].tolist() == [1, 1, 1]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


def read_all(path: Path) -> dict[str, Tensor]:
    file = open_tensor_file(path)
    return file.load(list(file.shapes))


def refused(path: Path) -> str:
    with pytest.raises(TaesdError) as caught:
        read_all(path)
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    return line


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
    line = refused(tmp_path / "a.pth")
    assert f"{os.name if os.name == 'posix' else 'nt'}.system" in line
    assert "may be an attack" in line
    assert not canary.exists()
    # The attack is a real one: torch's own unsafe reader would have run it.
    torch.serialization.load(tmp_path / "a.pth", weights_only=False)
    assert canary.exists()


def test_plain_pickle_and_whole_modules_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Attack(tmp_path / "canary"), protocol=2))
    assert "attack" in refused(tmp_path / "a.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    assert "torch.nn.modules.linear.Linear" in refused(tmp_path / "a.pth")
    assert not (tmp_path / "canary").exists()


def test_tar_in_disguise(tmp_path: Path) -> None:
    """Older PyTorch opens a tar archive before anything else, whatever its first bytes are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("xx", "storages", "tensors", "pickle"):
            data = pickle.dumps(Attack(tmp_path / "canary"), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (tmp_path / "a.pth").write_bytes(b"\x80\x02" + buffer.getvalue()[2:])
    refused(tmp_path / "a.pth")
    assert not (tmp_path / "canary").exists()


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


def test_claimed_storage_size_must_fit_its_bytes(tmp_path: Path) -> None:
    """A pickle that claims more elements than there are made older readers read beyond the end."""
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pth")
    repacked(tmp_path / "a.pth", {"data/0": b"\0" * 400})
    assert "claimed size does not fit" in refused(tmp_path / "a.pth")


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(5_000_000)}, tmp_path / "a.pth")
    repacked(tmp_path / "a.pth", compression=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    tracemalloc.start()
    assert "packed" in refused(tmp_path / "a.pth")
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """Directory entries that share one stretch of bytes claim more than the file has."""
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        first = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
        for index in range(1, 50):
            twin = zipfile.ZipInfo(f"archive/data/{index}")
            twin.file_size, twin.compress_size, twin.CRC = first.file_size, first.compress_size, first.CRC
            twin.header_offset = first.header_offset
            archive.filelist.append(twin)
            archive._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    assert "more than its own size" in refused(tmp_path / "a.pth")


def test_huge_directory_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
        for index in range(4_500):
            archive.writestr(f"archive/{index:01000}", b"")
    assert "directory is too long" in refused(tmp_path / "a.pth")


def test_damaged_bytes_are_noticed(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    data = bytearray((tmp_path / "a.pth").read_bytes())
    at = data.find(torch.arange(1000.0).numpy().tobytes()[:64])
    data[at + 20] ^= 1
    (tmp_path / "a.pth").write_bytes(data)
    assert "checksum" in refused(tmp_path / "a.pth")


def test_many_tensors_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """Small on the disk, large in memory: every tensor is the whole storage."""
    whole = torch.zeros(1_000_000)
    torch.save({f"{index}": whole[index:] for index in range(100)}, tmp_path / "a.pth")
    assert "same bytes many times" in refused(tmp_path / "a.pth")
    torch.save({"a": torch.zeros(1).expand(100_000, 100_000)}, tmp_path / "a.pth")
    assert "many times over" in refused(tmp_path / "a.pth")


def test_steps_without_end_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    repacked(tmp_path / "a.pth", {"data.pkl": b"\x80\x02" + b"N0" * 400_000})
    assert "no end" in refused(tmp_path / "a.pth")
    # Tuples of tuples, whose hash as a key would take for ever.
    repacked(tmp_path / "a.pth", {"data.pkl": b"\x80\x02})" + b"q\x00h\x00\x86" * 64 + b"Ns."})
    assert "key that is no text" in refused(tmp_path / "a.pth")
    # A memo place of four thousand million: C Python's own unpickler would allocate 64 GB for it.
    repacked(tmp_path / "a.pth", {"data.pkl": b"\x80\x02}r\xff\xff\xff\xff."})
    assert "holds no tensors" in refused(tmp_path / "a.pth")


def header(content: object, body: bytes = b"", length: int | None = None) -> bytes:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither"),
        (b"\x05", "neither"),
        (header({"a": ONE}, b"1234", length=2**40), "neither"),
        (header({"a": ONE}, b"123"), "cut off"),
        (header({"a": ONE}, b"12345"), "belong to no tensor"),
        (header({"a": {**ONE, "shape": [2]}}, b"1234"), "shape does not fit"),
        (header({"a": {**ONE, "shape": [2**40, 2**40]}}, b"1234"), "shape does not fit"),
        (header({"a": {**ONE, "shape": [-1, -1]}}, b"1234"), "no size"),
        (header({"a": {**ONE, "shape": [True]}}, b"1234"), "damaged"),
        (header({"a": {**ONE, "dtype": "F4"}}, b"1234"), "unknown type 'F4'"),
        (header({"a": {**ONE, "data_offsets": [4, 0]}}, b"1234"), "outside"),
        (header({"a": ONE, "b": ONE}, b"1234"), "overlap"),
        (header({"a": ONE, "b": {**ONE, "data_offsets": [8, 12]}}, b"1234xxxx1234"), "gaps"),
        (header(b'{"a": 1, "a": 2}'), "twice"),
        (header(b"[" * 100_000), "damaged"),
        (header(b'{"a": ' + b"9" * 1_000_000 + b"}"), "no size"),
        (header(b'{"a": {"shape": [-0]}}'), "no size"),
        (header(b'{"a": NaN}'), "NaN"),
        (header({"__metadata__": {"a": 1}}), "metadata"),
        (header([]), "damaged"),
        (header({str(index): {**ONE, "shape": [0], "data_offsets": [0, 0]} for index in range(30_000)}), "30,000"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        (b'{"error": "Repository not found", "code": 404}', "web page or a text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer"),
        (b"\x1b[31mred", "neither"),
    ],
)  # fmt: skip
def test_bad_headers(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    assert words in refused(tmp_path / "a.safetensors")


def test_header_whose_length_looks_like_a_brace_is_no_text(tmp_path: Path) -> None:
    """A header of 0x..7b bytes begins with "{": only its size tells that this is no text."""
    raw = json.dumps({"a": ONE}).encode()
    raw += b" " * (0x17B - len(raw))
    (tmp_path / "a.safetensors").write_bytes(header(raw, b"\0\0\x80\x3f"))
    same(tmp_path / "a.safetensors", {"a": torch.ones(1)})


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    assert "Cannot read" in refused(tmp_path / "folder.pth")
    assert "No such file" in refused(tmp_path / "absent.pth")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        assert "no file" in refused(tmp_path / "pipe.pth")


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be changed there")
def test_file_that_shrinks_or_vanishes_after_it_was_opened(tmp_path: Path) -> None:
    for data, name in ((save({"a": torch.ones(5000)}), "a.safetensors"), (None, "a.pth")):
        path = tmp_path / name
        if data is None:
            torch.save({"a": torch.ones(5000)}, path)
        else:
            path.write_bytes(data)
        file = open_tensor_file(path)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(TaesdError, match="shorter"):
            file.load(["a"])
        path.unlink()
        with pytest.raises(TaesdError, match="Cannot read"):
            file.load(["a"])


def test_replaced_loaders_of_hosts_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1111 replaces torch.load, Forge also safetensors' load_file, with functions that rename or hide bad files."""

    def trap(*_: object, **__: object) -> None:
        raise AssertionError("a host's loader was called")

    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    for module, names in (("torch", ("load",)), ("safetensors.torch", ("load_file", "load")), ("pickle", ("loads",))):
        for name in names:
            monkeypatch.setattr(sys.modules[module], name, trap)
    same(tmp_path / "a.pth", {"a": torch.ones(2)})
    same(tmp_path / "a.safetensors", {"a": torch.ones(2)})
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 not an archive")
    refused(tmp_path / "bad.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "a.safetensors", "bad.pth"]
