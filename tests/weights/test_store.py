"""Weight files recognised, listed, taken in and removed."""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow_files import own_weights, saved

from taesd_ext.errors import TaesdError
from taesd_ext.weights import identify as identify_module
from taesd_ext.weights.catalog import CATALOG, downloadable, downloads
from taesd_ext.weights.folders import weight_files
from taesd_ext.weights.identify import OFFICIAL, UNKNOWN, UNREADABLE, UNVERIFIED, checksums, identify
from taesd_ext.weights.store import add_file, list_weights, remove_file

linked = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose checksums were computed."""
    names: list[str] = []
    monkeypatch.setattr(identify_module, "checksums", lambda path: names.append(path.name) or checksums(path))
    return names


@pytest.mark.parametrize("name", ["taef2_decoder", "taef2_encoder", "taesana_encoder"])
def test_official_files_are_told_by_content(weights_dir: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "misleading_taesd3_decoder.pth"
    copy.write_bytes((weights_dir / f"{name}.pth").read_bytes())
    found = identify(copy)
    family, part = name.split("_")
    assert (found.state, str(found), found.families) == (OFFICIAL, f"{family} {part} 1.0", (family,))
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    assert identify(copy).state != OFFICIAL


def test_bad_files_are_said_not_raised(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04")
    found = identify(tmp_path / "bad.pth")
    assert found.state == UNREADABLE
    assert "bad.pth" in found.error
    assert identify(tmp_path / "absent.pth").state == UNREADABLE
    (tmp_path / "model.gguf.bin").write_bytes(b"GGUF" + bytes(100))
    assert identify(tmp_path / "model.gguf.bin").state == UNKNOWN, "a sound file that cannot be used"
    (tmp_path / "model.gguf.bin").unlink()
    saved(tmp_path / "lora.safetensors", {"lora.weight": torch.zeros(4)})
    assert list_weights([tmp_path]) == [found]
    assert len(list_weights([tmp_path], strays=True)) == 2


def test_large_files_are_hashed_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(5000)
    row = replace(CATALOG[-1], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    for name, value in (("_LARGEST_TINY", 1000), ("HASH_UP_TO", 1000), ("CATALOG", (row,))):
        monkeypatch.setattr(identify_module, name, value)
    monkeypatch.setattr("taesd_ext.weights.catalog.CATALOG", (row,))
    path = tmp_path / "large.safetensors"
    path.write_bytes(data)
    assert identify(path).hashed is False
    assert identify(path, always_hash=True).official == identify(path).official == row


def test_only_weights_are_listed_and_foreign_ones_not_hashed(tmp_path: Path, hashed: list[str]) -> None:
    for name in ("notes.txt", "other/diffusion_pytorch_model.safetensors", "taesd/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    saved(tmp_path / "lora.safetensors", {"lora.weight": torch.zeros(4)})
    own = [saved(tmp_path / "taesd" / "diffusion_pytorch_model.safetensors"), saved(tmp_path / "taesd_1.safetensors")]
    assert [found.path for found in list_weights([tmp_path])] == own
    assert hashed == [path.name for path in own]
    assert weight_files([tmp_path]) == [tmp_path / "lora.safetensors", *own]


@linked
def test_links_are_read_but_circles_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "taesd_decoder.safetensors").symlink_to(saved(tmp_path / "elsewhere" / "mine.safetensors"))
    (folder / "circle.safetensors").symlink_to(folder / "circle.safetensors")
    (folder / "nowhere.safetensors").symlink_to(tmp_path / "absent")
    os.utime(folder, (1, 1))
    assert [found.path.name for found in list_weights([folder])] == ["taesd_decoder.safetensors"]
    saved(tmp_path / "absent")  # as when a drive is mounted late
    assert len(list_weights([folder])) == 2


@pytest.mark.parametrize(
    ("family", "part", "name", "stored"),
    [
        ("taesd", "decoder", "..weird taesd; rm -rf.pth", "taesd_decoder.pth"),
        ("taesd", "encoder", "sd1.ckpt", "taesd_encoder.pth"),
        ("taef1", "decoder", "my_taef1_v2.safetensors", "taef1_decoder.safetensors"),
    ],
)
def test_own_file_gets_a_name_by_which_it_is_found(
    tmp_path: Path, family: str, part: str, name: str, stored: str
) -> None:
    source, folder = saved(tmp_path / name, own_weights(family, part)), tmp_path / "models"
    found = add_file(source, folder)
    assert found.path == folder / stored
    assert (found.state, found.parts) == (UNVERIFIED, (part,))
    assert [path.name for path in folder.iterdir()] == [stored]
    with pytest.raises(TaesdError, match="already in"):
        add_file(source, folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>", b"\x80\x02}.", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_bad_files_and_files_of_hdf5_are_not_taken(tmp_path: Path, content: bytes) -> None:
    """Whatever it is called: HDF5's library is C code and not for a stranger's files, which a page brings."""
    (tmp_path / "taesd_decoder.pth").write_bytes(content)
    with pytest.raises(TaesdError, match="was not added"):
        add_file(tmp_path / "taesd_decoder.pth", tmp_path / "models")
    assert not (tmp_path / "models").exists()


@linked
def test_nothing_is_put_through_links(tmp_path: Path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "models"
    precious.write_bytes(b"precious")
    folder.mkdir()
    (folder / "taesd_decoder.safetensors").symlink_to(precious)
    with pytest.raises(TaesdError, match="already in"):
        add_file(saved(tmp_path / "sd1.safetensors"), folder)
    remove_file(folder / "taesd_decoder.safetensors", [folder])
    assert precious.read_bytes() == b"precious"
    assert list(folder.iterdir()) == []


def test_only_weight_files_inside_the_folders_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    inside, outside = saved(folder / "taesd_decoder.safetensors"), saved(tmp_path / "other.safetensors")
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
        assert row.licence
        assert row.name == Path(row.name).name
        assert row.has_checksum or not row.sources
        assert all(source.startswith("https://") for source in row.sources)
    for family in downloadable():
        for way in downloads(family):
            assert {part for row in way for part in row.parts} >= {"decoder"}
