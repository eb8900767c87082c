"""Downloads against a server that misbehaves: the file is whole or absent, and each failure has its own line."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from misbehaving_server import Server, serving

import taesd_ext.weights.download as download_module
from taesd_ext.errors import TaesdError
from taesd_ext.weights.catalog import CATALOG, TINY, OfficialFile, downloads
from taesd_ext.weights.download import Cancelled, DownloadFailed, Patience, download_family, download_file

CONTENT = bytes(range(256)) * 400
ROW = OfficialFile(
    "taesd", ("decoder",), TINY, "9.9", "taesd_decoder.pth", "MIT", len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
)
OF_UNKNOWN_SIZE = replace(ROW, size=None)
BY_GIT = replace(
    OF_UNKNOWN_SIZE, sha256="", git_sha1=hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()
)
QUICK = Patience(attempts=3, first_pause=0.01, timeout=0.5, lock_wait=20)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as running:
        yield running


def get(server: Server, folder: Path, *how: str, row: OfficialFile = ROW, **options: object) -> Path:
    options = {"patience": QUICK, "allow_loopback_http": True, **options}
    return download_file(row, folder, sources=[server.url(each) for each in how], **options)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("row", [ROW, OF_UNKNOWN_SIZE, BY_GIT], ids=["sized", "unsized", "git"])
@pytest.mark.parametrize("how", ["good", "redirect", "redirect-308", "broken-once", "busy-twice", "no-ranges"])
def test_whole_file(server: Server, tmp_path: Path, how: str, row: OfficialFile) -> None:
    seen: list[tuple[int, int | None]] = []
    path = get(server, tmp_path / "new" / "folder", how, row=row, progress=lambda *done: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["taesd_decoder.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_chunked_answer_without_length(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path, "chunked", row=OF_UNKNOWN_SIZE).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("silent", "fallen silent"),
        ("wrong", "not those of the official file"),
        ("shorter", "another version (102,399 bytes instead of 102,400)"),
        ("page", "web page came instead"),
        ("page-as-file", "another version"),
        ("missing", "does not have this file (HTTP 404)"),
        ("forbidden", "wants a log-in for this file (HTTP 403)"),
        ("busy", "busy or broken (HTTP 503)"),
        ("loop", "redirects in a circle"),
        ("to-file", "redirects to an unsafe address"),
        ("to-elsewhere", "redirects to an unsafe address"),
        ("packed", "packed data"),
        ("endless", "more than the file has"),
        ("garbage", "No connection"),
    ],
)
def test_each_failure_says_its_own_line(server: Server, tmp_path: Path, how: str, words: str) -> None:
    with pytest.raises(DownloadFailed) as caught:
        get(server, tmp_path, how)
    line = str(caught.value)
    assert words in line
    assert line.startswith("taesd_decoder.pth could not be downloaded: ")
    assert "\n" not in line
    assert "taesd_decoder.pth" not in names(tmp_path)


def test_page_of_right_type_and_unknown_size(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="web page came instead"):
        get(server, tmp_path, "page-as-file", row=OF_UNKNOWN_SIZE)


def test_endless_stream_ends_at_the_limit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(download_module._LIMITS, TINY, 300_000)
    with pytest.raises(DownloadFailed, match="more than the file has"):
        get(server, tmp_path, "endless", row=OF_UNKNOWN_SIZE)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 300_000


def test_goes_on_after_each_break(server: Server, tmp_path: Path) -> None:
    """Each answer brings a third of what is left; the parts are asked for by ranges and fit together."""
    path = get(server, tmp_path, "broken")
    assert path.read_bytes() == CONTENT
    firsts = [int(wanted[6:-1]) for wanted in server.ranges if wanted]
    assert firsts == sorted(set(firsts))
    assert len(firsts) > 5


def test_goes_on_in_the_next_session(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="fallen silent"):
        get(server, tmp_path, "silent")
    assert names(tmp_path) == [".taesd_decoder.pth.part"]
    server.ranges.clear()
    assert get(server, tmp_path, "good").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_whole_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".taesd_decoder.pth.part").write_bytes(CONTENT)
    assert get(server, tmp_path, "missing").read_bytes() == CONTENT
    assert not server.requests


@pytest.mark.parametrize("left", [b"x" * 500, b"x" * (len(CONTENT) + 5), b"x" * len(CONTENT), b""])
@pytest.mark.parametrize("row", [ROW, OF_UNKNOWN_SIZE], ids=["sized", "unsized"])
def test_foreign_leftover_does_no_harm(server: Server, tmp_path: Path, left: bytes, row: OfficialFile) -> None:
    (tmp_path / ".taesd_decoder.pth.part").write_bytes(left)
    assert get(server, tmp_path, "good", row=row).read_bytes() == CONTENT


def test_other_range_than_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".taesd_decoder.pth.part").write_bytes(CONTENT[:500])
    assert get(server, tmp_path, "other-range", "good").read_bytes() == CONTENT


def test_second_source_serves(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path, "missing", "page", "wrong", "good")
    assert path.read_bytes() == CONTENT
    assert server.requests["missing"] == 1, "an address without the file is not asked again"


def test_no_server(server: Server, tmp_path: Path) -> None:
    url = server.url("good")
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadFailed, match=r"No connection to 127\.0\.0\.1.*Check the network"):
        download_file(ROW, tmp_path, sources=[url], patience=QUICK, allow_loopback_http=True)
    assert names(tmp_path) == []


def test_plain_http_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="Only https"):
        get(server, tmp_path, "good", allow_loopback_http=False)
    for source in ("file:///etc/hostname", "http://elsewhere.invalid/x", "ftp://127.0.0.1/x", "data:,x"):
        with pytest.raises(DownloadFailed, match="Only https"):
            download_file(ROW, tmp_path, sources=[source], patience=QUICK, allow_loopback_http=True)
    assert not server.requests


def test_cancel_keeps_what_came_and_goes_on_later(server: Server, tmp_path: Path) -> None:
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        get(server, tmp_path, "dribble", cancel=cancel, progress=lambda done, _: done > 5000 and cancel.set())
    assert names(tmp_path) == [".taesd_decoder.pth.part"]
    assert get(server, tmp_path, "good").read_bytes() == CONTENT
    assert server.ranges[-1] != "bytes=0-"


def test_cancel_while_pausing(server: Server, tmp_path: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        get(server, tmp_path, "busy", cancel=cancel, patience=replace(QUICK, first_pause=60))
    assert time.monotonic() - began < 30


def test_already_there_asks_nobody(server: Server, tmp_path: Path) -> None:
    (tmp_path / ROW.name).write_bytes(CONTENT)
    assert get(server, tmp_path, "good", offline=True) == tmp_path / ROW.name
    assert not server.requests


def test_stranger_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / ROW.name).write_bytes(b"my own training")
    with pytest.raises(TaesdError, match="kept as it is"):
        get(server, tmp_path, "good")
    assert (tmp_path / ROW.name).read_bytes() == b"my own training"
    assert get(server, tmp_path, "good", replace=True).read_bytes() == CONTENT


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
    with pytest.raises(TaesdError, match="kept as it is"):
        get(server, folder, "good")
    (folder / "taesd_decoder.pth").unlink()
    get(server, folder, "good")
    assert outside.read_bytes() == b"precious"
    (folder / ".taesd_decoder.pth.lock").symlink_to(outside)
    (folder / "taesd_decoder.pth").unlink()
    with pytest.raises(TaesdError, match="cannot be written"):
        get(server, folder, "good")
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize("value", ["1", "true", "ON", "yes"])
def test_offline_by_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(TaesdError, match="HF_HUB_OFFLINE is set"):
        get(server, tmp_path, "good")
    assert not server.requests


def test_offline_by_option(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TaesdError, match="switched off"):
        get(server, tmp_path, "good", offline=True)
    assert not server.requests
    assert names(tmp_path) == []


def test_full_disk_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TaesdError, match=r"disk is full. Make room"):
        get(server, tmp_path, "good")
    assert names(tmp_path) == []
    assert not server.requests


def fail_to_open_parts(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Writing into a temporary file fails with this error of the system."""
    real = Path.open

    def failing(path: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if path.suffix == ".part" and mode != "rb":
            real(path, "wb").close()
            raise OSError(error, os.strerror(error))
        return real(path, mode, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", failing)


@pytest.mark.parametrize(
    ("error", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "read-only"), (errno.EIO, "")],
)
def test_disk_errors_meanwhile(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, words: str
) -> None:
    fail_to_open_parts(monkeypatch, error)
    with pytest.raises(TaesdError, match=f"cannot be written into .*{words}"):
        get(server, tmp_path, "good")
    assert ROW.name not in names(tmp_path)
    assert error != errno.ENOSPC or names(tmp_path) == []


def test_folder_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(TaesdError, match="cannot be written"):
        get(server, tmp_path / "models", "good")


def test_concurrent_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    """Three processes want the same file: one fetches, all have it whole, nobody sees half of it."""
    code = (
        "import sys, hashlib; sys.path[:0] = sys.argv[4:]\n"
        "import pathlib, test_download as t\n"
        "from taesd_ext.weights.download import download_file\n"
        "p = download_file(t.ROW, sys.argv[1], sources=[sys.argv[2]], patience=t.QUICK, allow_loopback_http=True)\n"
        "assert p.read_bytes() == t.CONTENT\n"
    )
    folders = (Path(download_module.__file__).parents[2], Path(__file__).parent, Path(__file__).parents[1])
    command = [sys.executable, "-c", code, str(tmp_path), server.url("dribble"), "", *map(str, folders)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    target = tmp_path / ROW.name
    while any(process.poll() is None for process in started):
        if target.exists():
            assert target.read_bytes() == CONTENT
        time.sleep(0.02)
    for process in started:
        assert process.wait() == 0, process.communicate()[1].decode()
    assert server.requests["dribble"] == 1
    assert names(tmp_path) == [ROW.name]


def test_proxy_of_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our server stands in for the proxy: it gets the whole address of a place that does not exist."""
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url("good").rsplit("/", 2)[0])
    with pytest.raises(DownloadFailed):
        download_file(
            ROW, tmp_path, sources=["http://127.0.0.1:9/good/file.pth"], patience=QUICK, allow_loopback_http=True
        )
    assert sum(server.requests.values()) > 0


def test_family_falls_back_to_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the split files cannot be had, the whole one of the other site serves."""
    asked: list[str] = []

    def fake(row: OfficialFile, folder: Path, **_: object) -> Path:
        asked.append(row.name)
        if row.name.endswith(".pth"):
            raise DownloadFailed("no")
        return Path(folder) / row.name

    monkeypatch.setattr(download_module, "download_file", fake)
    assert download_family("taesd", tmp_path) == [tmp_path / "taesd.safetensors"]
    assert asked == ["taesd_encoder.pth", "taesd.safetensors"]


def test_every_downloadable_row_has_a_checksum_and_https() -> None:
    for row in CATALOG:
        assert row.has_checksum or not row.sources, row
        assert all(source.startswith("https://") for source in row.sources)
        assert row.name == Path(row.name).name
    assert all(row.parts for way in downloads("taesd") for row in way)
