"""Files of Hugging Face: its mirror, its token, its cache."""

from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from download_case import CONTENT, QUICK, ROW, names
from misbehaving_server import Server

from taesd_ext.errors import TaesdError
from taesd_ext.weights.download import download_file

HERE = replace(ROW, sources=("https://huggingface.co/someone/some-model/resolve/main/taesd_decoder.pth",))


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The server as a mirror that serves every address well; nothing is cached and nobody is logged in."""
    monkeypatch.setenv("HF_ENDPOINT", server.url("good").rsplit("/", 1)[0])
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    use_cache(monkeypatch, tmp_path / "cache")
    return server


def use_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *place: real(*place, cache_dir=folder))


def put_into_cache(folder: Path, content: bytes) -> None:
    """As the library lays it out."""
    model = folder / "models--someone--some-model"
    (model / "snapshots" / "abc").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc" / "taesd_decoder.pth").write_bytes(content)


def test_mirror_and_token(mirror: Server, tmp_path: Path) -> None:
    path = download_file(HERE, tmp_path / "models", QUICK)
    assert path.read_bytes() == CONTENT
    assert mirror.paths == ["/good/someone/some-model/resolve/main/taesd_decoder.pth"]
    assert mirror.tokens == ["Bearer hf_secret"]


def test_token_is_for_hugging_face_alone(mirror: Server, tmp_path: Path) -> None:
    download_file(replace(HERE, sources=(mirror.url("good"),)), tmp_path / "models", QUICK)
    assert mirror.tokens == [None]


@pytest.mark.parametrize("offline", [True, False])
def test_cached_file_needs_no_network(mirror: Server, tmp_path: Path, offline: bool) -> None:
    put_into_cache(tmp_path / "cache", CONTENT)
    path = download_file(HERE, tmp_path / "models", QUICK, offline=offline)
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == [path.name]
    assert not mirror.requests


def test_other_bytes_in_the_cache_are_not_taken(mirror: Server, tmp_path: Path) -> None:
    put_into_cache(tmp_path / "cache", b"an older version")
    assert download_file(HERE, tmp_path / "models", QUICK).read_bytes() == CONTENT
    with pytest.raises(TaesdError):
        download_file(HERE, tmp_path / "elsewhere", QUICK, offline=True)
