"""Downloads into folders that hold something already, cannot be written, or are written by others at the same time."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from download_case import CONTENT, ROW, get, names
from misbehaving_server import Server

import taesd_ext.weights.download as download_module
from taesd_ext.errors import TaesdError


def test_already_there_asks_nobody(server: Server, tmp_path: Path) -> None:
    (tmp_path / ROW.name).write_bytes(CONTENT)
    assert get(server, tmp_path, "good", offline=True) == tmp_path / ROW.name
    assert not server.requests


def test_stranger_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / ROW.name).write_bytes(b"my own training")
    with pytest.raises(TaesdError):
        get(server, tmp_path, "good")
    assert (tmp_path / ROW.name).read_bytes() == b"my own training"


def test_older_official_version_is_replaced(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = b"older weights"
    older = replace(ROW, version="0.1", size=len(old), sha256=hashlib.sha256(old).hexdigest())
    monkeypatch.setattr("taesd_ext.weights.catalog.CATALOG", (older,))
    (tmp_path / ROW.name).write_bytes(old)
    assert get(server, tmp_path, "good").read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(os, "symlink") or sys.platform == "win32", reason="links need rights on Windows")
def test_never_writes_through_links(server: Server, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"precious")
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (".taesd_decoder.pth.part", "taesd_decoder.pth"):
        (folder / name).symlink_to(outside)
    with pytest.raises(TaesdError):
        get(server, folder, "good")
    (folder / "taesd_decoder.pth").unlink()
    get(server, folder, "good")
    assert outside.read_bytes() == b"precious"
    (folder / ".taesd_decoder.pth.lock").symlink_to(outside)
    (folder / "taesd_decoder.pth").unlink()
    with pytest.raises(TaesdError, match="cannot be written"):
        get(server, folder, "good")
    assert outside.read_bytes() == b"precious"


def test_no_request_when_offline_or_on_a_full_disk(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaesdError, match="switched off"):
        get(server, tmp_path, "good", offline=True)
    for value in ("1", "true", "ON", "yes"):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        with pytest.raises(TaesdError, match="HF_HUB_OFFLINE is set"):
            get(server, tmp_path, "good")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(TaesdError, match=r"disk is full. Make room"):
        get(server, tmp_path, "good")
    assert names(tmp_path) == []
    assert not server.requests


@pytest.mark.parametrize(
    ("error", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "read-only"), (errno.EIO, "")],
)
def test_disk_errors_meanwhile(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, words: str
) -> None:
    real = Path.open

    def failing(path: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if path.suffix == ".part" and mode != "rb":
            real(path, "wb").close()
            raise OSError(error, os.strerror(error))
        return real(path, mode, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(TaesdError, match=f"cannot be written into .*{words}"):
        get(server, tmp_path, "good")
    assert ROW.name not in names(tmp_path)
    assert error != errno.ENOSPC or names(tmp_path) == []


def test_concurrent_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    """Two processes want the same file: one fetches, all have it whole, nobody sees half of it."""
    code = (
        "import sys, hashlib; sys.path[:0] = sys.argv[4:]\n"
        "import pathlib, download_case as t\n"
        "p = t.get_from(pathlib.Path(sys.argv[1]), sys.argv[2])\n"
        "assert p.read_bytes() == t.CONTENT\n"
    )
    folders = (Path(download_module.__file__).parents[2], Path(__file__).parent, Path(__file__).parents[1])
    command = [sys.executable, "-c", code, str(tmp_path), server.url("dribble"), "", *map(str, folders)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    target = tmp_path / ROW.name
    while any(process.poll() is None for process in started):
        if target.exists():
            assert target.read_bytes() == CONTENT
        time.sleep(0.02)
    for process in started:
        assert process.wait() == 0, process.communicate()[1].decode()
    assert server.requests["dribble"] == 1
    assert names(tmp_path) == [ROW.name]
