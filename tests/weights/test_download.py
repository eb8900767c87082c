"""Downloads against a server that misbehaves: the file is whole or absent, and each failure has its own line."""

import threading
import time
from pathlib import Path

import pytest
from download_case import BY_GIT, CONTENT, OF_UNKNOWN_SIZE, ROW, get, get_from, names
from misbehaving_server import Server

import taesd_ext.weights.download as download_module
from taesd_ext.weights.catalog import OfficialFile
from taesd_ext.weights.download import Cancelled, DownloadFailed, download_family

PART = ".taesd_decoder.pth.part"


@pytest.mark.parametrize("row", [ROW, OF_UNKNOWN_SIZE, BY_GIT], ids=["sized", "unsized", "git"])
@pytest.mark.parametrize("how", ["good", "redirect", "redirect-308", "broken-once", "busy-twice", "no-ranges"])
def test_whole_file(server: Server, tmp_path: Path, how: str, row: OfficialFile) -> None:
    seen: list[tuple[int, int | None]] = []
    path = get(server, tmp_path / "new" / "folder", how, row=row, progress=lambda *done: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    "how",
    ["silent", "wrong", "shorter", "page", "page-as-file", "missing", "forbidden", "busy", "loop", "to-file",
     "to-elsewhere", "endless", "garbage"],
)  # fmt: skip
def test_each_failure_is_one_line(server: Server, tmp_path: Path, how: str) -> None:
    with pytest.raises(DownloadFailed) as caught:
        get(server, tmp_path, how)
    line = str(caught.value)
    assert line.startswith("taesd_decoder.pth could not be downloaded: ")
    assert "\n" not in line
    assert {"missing": "404", "forbidden": "403", "busy": "503", "shorter": "102,399"}.get(how, "") in line
    assert "taesd_decoder.pth" not in names(tmp_path)


def test_of_unknown_size(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_LARGEST_TINY", 300_000)
    for how, words in (("page-as-file", "web page came instead"), ("endless", "more than the file has")):
        with pytest.raises(DownloadFailed, match=words):
            get(server, tmp_path, how, row=OF_UNKNOWN_SIZE)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 300_000
    assert get(server, tmp_path, "chunked", row=OF_UNKNOWN_SIZE).read_bytes() == CONTENT


def test_goes_on_after_each_break(server: Server, tmp_path: Path) -> None:
    """Each answer brings a third of what is left; the parts are asked for by ranges and fit together."""
    assert get(server, tmp_path, "broken").read_bytes() == CONTENT
    firsts = [int(wanted[6:-1]) for wanted in server.ranges if wanted]
    assert firsts == sorted(set(firsts))
    assert len(firsts) > 5


@pytest.mark.parametrize("how", ["silent", "dribble"])
def test_what_came_is_kept_and_gone_on_from_after_a_failure_and_after_cancel(
    server: Server, tmp_path: Path, how: str
) -> None:
    cancel = threading.Event()
    with pytest.raises(DownloadFailed if how == "silent" else Cancelled):
        get(server, tmp_path, how, cancel=cancel, progress=lambda done, _: done > 5000 and cancel.set())
    assert names(tmp_path) == [PART]
    came = (tmp_path / PART).stat().st_size
    assert get(server, tmp_path, "good").read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={came}-"


@pytest.mark.parametrize("left", [b"x" * 500, b"x" * (len(CONTENT) + 5), b"x" * len(CONTENT), b"", CONTENT])
@pytest.mark.parametrize("row", [ROW, OF_UNKNOWN_SIZE], ids=["sized", "unsized"])
def test_a_leftover_does_no_harm(server: Server, tmp_path: Path, left: bytes, row: OfficialFile) -> None:
    (tmp_path / PART).write_bytes(left)
    assert get(server, tmp_path, "good", row=row).read_bytes() == CONTENT
    assert bool(server.requests) == (left != CONTENT or row.size is None), "a whole one needs no request"


def test_other_range_than_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(CONTENT[:500])
    assert get(server, tmp_path, "other-range", "good").read_bytes() == CONTENT


def test_second_source_serves(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path, "missing", "page", "wrong", "good").read_bytes() == CONTENT
    assert server.requests["missing"] == 1, "an address without the file is not asked again"


def test_no_server(server: Server, tmp_path: Path) -> None:
    url = server.url("good")
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadFailed, match=r"No connection to 127\.0\.0\.1.*Check the network"):
        get_from(tmp_path, url)
    assert names(tmp_path) == []


@pytest.mark.parametrize("source", ["file:///etc/hostname", "http://elsewhere.invalid/x", "data:,x"])
def test_plain_http_is_refused(server: Server, tmp_path: Path, source: str) -> None:
    with pytest.raises(DownloadFailed, match="Only https"):
        get_from(tmp_path, source)


def test_cancel_while_pausing(server: Server, tmp_path: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        get(server, tmp_path, "busy", cancel=cancel, first_pause=600)
    assert time.monotonic() - began < 300


def test_proxy_of_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our server stands in for the proxy: it gets the whole address of a place that does not exist."""
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url("good").rsplit("/", 2)[0])
    with pytest.raises(DownloadFailed):
        get_from(tmp_path, "http://127.0.0.1:9/good/file.pth")
    assert sum(server.requests.values()) > 0


def test_family_falls_back_to_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the split files cannot be had, the whole one of the other site serves."""
    asked: list[str] = []

    def fake(row: OfficialFile, folder: Path, *_: object, **__: object) -> Path:
        asked.append(row.name)
        if row.name.endswith(".pth"):
            raise DownloadFailed("no")
        return Path(folder) / row.name

    monkeypatch.setattr(download_module, "download_file", fake)
    assert download_family("taesd", tmp_path) == [tmp_path / "taesd.safetensors"]
    assert asked == ["taesd_encoder.pth", "taesd.safetensors"]
