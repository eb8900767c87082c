"""Weight files recognised, listed, taken in and removed."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from taesd_ext.errors import TaesdError
from taesd_ext.models import tiny
from taesd_ext.weights import identify as identify_module
from taesd_ext.weights.catalog import CATALOG, TINY, downloadable, downloads
from taesd_ext.weights.folders import weight_files
from taesd_ext.weights.identify import OFFICIAL, UNREADABLE, UNVERIFIED, checksums, identify
from taesd_ext.weights.store import add_file, list_weights, remove_file

linked = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")


def write_tiny(path: Path, part: str = "decoder", channels: int = 4) -> Path:
    network = (tiny.Decoder if part == "decoder" else tiny.Encoder)(channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: torch.zeros_like(value, dtype=torch.float16) for key, value in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("taef2_decoder.pth", "taef2 decoder 1.0"),
        ("taef2_encoder.pth", "taef2 encoder 1.0"),
        ("taesana_encoder.pth", "taesana encoder 1.0"),
    ],
)
def test_official_files_are_told_by_content(weights_dir: Path, tmp_path: Path, name: str, said: str) -> None:
    copy = tmp_path / "misleading_taesd3_decoder.pth"
    copy.write_bytes((weights_dir / name).read_bytes())
    found = identify(copy)
    assert (found.state, str(found), found.families) == (OFFICIAL, said, (said.split()[0],))
    assert found.official
    assert found.official.licence == "MIT"
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    assert identify(copy).state != OFFICIAL


def test_conversions_are_unverified(weights_dir: Path) -> None:
    """The same weights in another file have another checksum: nobody vouches for them."""
    found = identify(weights_dir / "taesdxl_decoder.safetensors")
    assert found.state == UNVERIFIED
    assert found.families == ("taesdxl",)
    assert found.parts == ("decoder",)


def test_git_names_a_file_as_we_do(tmp_path: Path) -> None:
    """The empty blob's and a greeting's names are known to everybody who uses git."""
    (tmp_path / "a").write_bytes(b"")
    assert checksums(tmp_path / "a") == (hashlib.sha256(b"").hexdigest(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    (tmp_path / "a").write_bytes(b"hello\n")
    assert checksums(tmp_path / "a")[1] == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_answer_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny(tmp_path / "a.safetensors")
    reads: list[Path] = []
    real = identify_module.checksums
    monkeypatch.setattr(identify_module, "checksums", lambda path: reads.append(path) or real(path))
    assert identify(path) == identify(path)
    assert len(reads) == 1
    os.utime(path, ns=(1, time.time_ns()))
    identify(path)
    assert len(reads) == 2


def test_bad_files_are_said_not_raised(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04")
    found = identify(tmp_path / "bad.pth")
    assert found.state == UNREADABLE
    assert "bad.pth" in found.error
    assert identify(tmp_path / "absent.pth").state == UNREADABLE
    assert list_weights([tmp_path]) == list_weights([tmp_path], strays=True) == [found]
    save_file({"lora.weight": torch.zeros(4)}, tmp_path / "lora.safetensors")
    assert list_weights([tmp_path]) == [found]
    assert len(list_weights([tmp_path], strays=True)) == 2


def test_large_files_are_hashed_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify_module, "_LARGEST_TINY", 1000)
    monkeypatch.setattr(identify_module, "HASH_UP_TO", 1000)
    data = bytes(5000)
    row = replace(CATALOG[-1], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setattr("taesd_ext.weights.catalog.CATALOG", (row,))
    monkeypatch.setattr(identify_module, "CATALOG", (row,))
    (tmp_path / "large.safetensors").write_bytes(data)
    assert identify(tmp_path / "large.safetensors").hashed is False
    assert identify(tmp_path / "large.safetensors", always_hash=True).official == row
    assert identify(tmp_path / "large.safetensors").official == row


def test_stray_files_are_listed_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 strays beside one decoder: texts are not opened, foreign weights not hashed."""
    for index in range(700):
        (tmp_path / f"{index}.txt").write_bytes(b"notes")
        if index < 300:
            save_file({"lora.weight": torch.zeros(4)}, tmp_path / f"lora{index}.safetensors")
    write_tiny(tmp_path / "taesd_decoder.safetensors")
    hashed: list[Path] = []
    real = identify_module.checksums
    monkeypatch.setattr(identify_module, "checksums", lambda path: hashed.append(path) or real(path))
    assert [found.path.name for found in list_weights([tmp_path])] == ["taesd_decoder.safetensors"]
    assert [path.name for path in hashed] == ["taesd_decoder.safetensors"]
    assert len(weight_files([tmp_path])) == 301


def test_diffusers_folders_are_listed(tmp_path: Path) -> None:
    write_tiny(tmp_path / "taesd" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "taesd" / "config.json").write_text("{}")
    write_tiny(tmp_path / "other" / "diffusion_pytorch_model.safetensors")
    assert [path.parent.name for path in weight_files([tmp_path])] == ["taesd"]


@linked
def test_links_are_read_but_circles_are_not(tmp_path: Path) -> None:
    outside = write_tiny(tmp_path / "elsewhere" / "mine.safetensors")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "taesd_decoder.safetensors").symlink_to(outside)
    (folder / "circle.safetensors").symlink_to(folder / "circle.safetensors")
    (folder / "nowhere.safetensors").symlink_to(tmp_path / "absent")
    assert [found.path.name for found in list_weights([folder])] == ["taesd_decoder.safetensors"]


@pytest.mark.parametrize(
    ("suffix", "part", "channels", "name"),
    [
        (".pth", "decoder", 4, "taesd_decoder.pth"),
        (".ckpt", "encoder", 4, "taesd_encoder.pth"),
        (".safetensors", "decoder", 16, "taesd3_decoder.safetensors"),
    ],
)
def test_own_file_gets_a_name_by_which_it_is_found(
    tmp_path: Path, suffix: str, part: str, channels: int, name: str
) -> None:
    source = write_tiny(tmp_path / f"..weird {Path(name).stem}; rm -rf{suffix}", part, channels)
    folder = tmp_path / "models"
    found = add_file(source, folder)
    assert found.path == folder / name
    assert (found.state, found.parts) == (UNVERIFIED, (part,))
    assert [path.name for path in folder.iterdir()] == [name]
    with pytest.raises(TaesdError, match="already in"):
        add_file(source, folder)


def test_family_in_the_name_decides_where_the_structure_leaves_two(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "my_taef1_v2.safetensors", "decoder", 16)
    assert add_file(source, tmp_path / "models").path.name == "taef1_decoder.safetensors"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>", b"\x80\x02}."])
def test_bad_files_are_not_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(TaesdError, match="was not added"):
        add_file(tmp_path / "x.pth", tmp_path / "models")
    assert not (tmp_path / "models").exists()


@linked
def test_nothing_is_put_through_links(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "taesd_decoder.safetensors").symlink_to(precious)
    with pytest.raises(TaesdError, match="already in"):
        add_file(write_tiny(tmp_path / "sd1.safetensors"), folder)
    assert precious.read_bytes() == b"precious"
    remove_file(folder / "taesd_decoder.safetensors", [folder])
    assert precious.read_bytes() == b"precious"
    assert list(folder.iterdir()) == []


def test_only_weight_files_inside_the_folders_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    inside = write_tiny(folder / "taesd_decoder.safetensors")
    outside = write_tiny(tmp_path / "other.safetensors")
    (folder / "notes.txt").write_text("mine")
    for path in (outside, folder / ".." / "other.safetensors", folder / "notes.txt", folder, Path("/etc/passwd")):
        with pytest.raises(TaesdError, match="was not removed"):
            remove_file(path, [folder])
    assert outside.exists()
    remove_file(inside, [folder])
    assert not inside.exists()


def test_catalogue_is_sound() -> None:
    seen = [row.sha256 or row.git_sha1 for row in CATALOG if row.has_checksum]
    assert len(seen) == len(set(seen))
    for row in CATALOG:
        assert len(row.sha256) in (0, 64)
        assert len(row.git_sha1) in (0, 40)
        assert all(character in "0123456789abcdef" for character in row.sha256 + row.git_sha1)
        assert row.licence
    for family in downloadable():
        for way in downloads(family):
            assert {part for row in way for part in row.parts} >= {"decoder"}
    for family in ("taesd", "taesdxl", "taesd3", "taef1", "taef2"):
        assert len(downloads(family)) == 2, "there is a second way to each of the old families"
        assert all(row.kind == TINY for way in downloads(family) for row in way)


@pytest.mark.parametrize("name", ["taesd_decoder.h5", "taesd_decoder.safetensors"])
def test_no_page_adds_an_hdf5_file(tmp_path: Path, name: str) -> None:
    """Whatever it is called: its library's C code is not for a stranger's files."""
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "own").mkdir()
    with pytest.raises(TaesdError, match="was not added: it is a Keras file"):
        add_file(tmp_path / name, tmp_path / "own")
    assert not list((tmp_path / "own").iterdir())
