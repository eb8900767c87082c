"""Downloads from the panel, in a browser, from a server on this machine that does what bad networks do."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from chromium import PHONE, choose, go_to, is_wider_than_screen, keep_shot, wait_for_words, window
from misbehaving_server import Server, serving
from playground_server import running_playground
from safetensors.torch import save

from taesd_ext.models.tiny import Decoder

pytestmark = pytest.mark.e2e

WAYS = {
    "taesd": "dribble", "taesdxl": "broken-once", "taesd3": "wrong", "taef1": "redirect", "taef2": "missing",
    "taesana": "missing", "taew2_1": "page",
}  # fmt: skip
"""Family -> how its file is served."""

LINE = "#taesd_download_progress"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    torch.manual_seed(0)
    state = {name: value.half() for name, value in Decoder(4).state_dict().items()}
    with serving(save(state)) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def address(server, folder, tmp_path_factory) -> Iterator[str]:
    run = tmp_path_factory.mktemp("run")
    table = {
        family: [{
            "family": family, "parts": ["decoder"], "version": "1.0",
            "name": f"{family}_decoder.safetensors", "licence": "MIT", "size": len(server.content),
            "sha256": hashlib.sha256(server.content).hexdigest(),
            "sources": [server.url(how)],
        }] for family, how in WAYS.items()
    }  # fmt: skip
    path = run / "table.json"
    path.write_text(json.dumps(table))
    start = (str(Path(__file__).with_name("local_downloads.py")), str(path))
    with running_playground(run / "playground", folder, start, offline=False) as address:
        yield address


@pytest.fixture
def page(browser, address):
    with window(browser, address, PHONE, "dark", ready="#taesd_preview img", settled=False) as page:
        go_to(page, "Models")
        page.wait_for_selector("#taesd_models_table table")
        yield page
        assert not is_wider_than_screen(page)
        assert [error for error in page.errors if "ERR_FAILED" not in error and "fonts" not in error] == []


def download(page, family: str) -> None:
    choose(page, "taesd_download_family", f"{family} ")
    page.click("#taesd_download")


def is_whole(folder: Path, family: str, server: Server) -> bool:
    """Whether the file is there; a file that is there and not whole fails."""
    path = folder / f"{family}_decoder.safetensors"
    if not path.exists():
        return False
    assert path.read_bytes() == server.content
    return True


def test_a_slow_one_shows_its_progress_is_cancelled_and_goes_on(page, folder, server, tmp_path):
    download(page, "taesd")
    bar = page.locator(f"{LINE} [role=progressbar]")
    page.wait_for_function(
        f"Number(document.querySelector('{LINE} [role=progressbar]')?.getAttribute('aria-valuenow')) >= 5"
    )
    assert "of 2.5 MB" in bar.inner_text()
    keep_shot(page, tmp_path, f"download-{page.viewport_size['width']}")
    page.click("#taesd_download_cancel")
    assert "Start it again to go on from here" in wait_for_words(page, LINE, "Cancelled")
    assert not is_whole(folder, "taesd", server)
    so_far = (folder / ".taesd_decoder.safetensors.part").stat().st_size
    assert 0 < so_far < len(server.content)

    download(page, "taesd")
    wait_for_words(page, LINE, "taesd_decoder.safetensors.")
    assert server.ranges[-1] == f"bytes={so_far}-"
    assert is_whole(folder, "taesd", server)
    wait_for_words(page, "#taesd_models_table", "taesd_decoder.safetensors")


def test_all_that_is_missing_comes_though_some_cannot(page, folder, server):
    for part in ("encoder", "decoder"):  # of the slow one
        (folder / f"taesd_{part}.safetensors").write_bytes(server.content)
    page.click("#taesd_download_all")
    line = wait_for_words(page, "#taesd_download_all_progress", "Downloaded to")
    assert "taesdxl_decoder.safetensors, taef1_decoder.safetensors" in line
    assert "HTTP 404" in line
    assert is_whole(folder, "taesdxl", server)
    assert is_whole(folder, "taef1", server)
    assert not is_whole(folder, "taesd3", server)
