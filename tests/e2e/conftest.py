"""Real WebUIs for the tests that need one."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from webui_hosts import Host, host_of, put_checkpoints
from webui_server import OPTIONS, WebUIServer, link_weights

from taesd_ext.settings import OPTIONS as OUR_OPTIONS


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium for all tests that open a page."""
    chromium = pytest.importorskip("chromium", reason="needs playwright: pip install .[test]")
    with chromium.running_chromium() as running:
        yield running


@pytest.fixture(scope="session")
def webui_home() -> Path:
    if "WEBUI_DIR" not in os.environ:
        pytest.skip("needs a WebUI: set WEBUI_DIR to its folder, and WEBUI_PYTHON to its Python")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, servers are stopped all the same
    return Path(os.environ["WEBUI_DIR"])


@pytest.fixture(scope="session")
def host_row(webui_home) -> Host:
    return host_of(webui_home)


@pytest.fixture(scope="session")
def checkpoints(host_row, shared, tmp_path_factory) -> Path:
    """TAESD_TEST_CHECKPOINTS may name a folder of better ones, as fit_photographs.py makes them."""
    if "TAESD_TEST_CHECKPOINTS" in os.environ:
        return Path(os.environ["TAESD_TEST_CHECKPOINTS"])
    return put_checkpoints(host_row, shared, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def hf_home(shared, tmp_path_factory) -> Path:
    """An offline tokenizer; a copy, as the library writes into it."""
    return Path(shutil.copytree(shared / "webui" / "hf", tmp_path_factory.mktemp("hf") / "hf"))


@pytest.fixture(scope="session")
def new_server(checkpoints, hf_home, shared, tmp_path_factory):
    """Makes a server that is not started; ``data`` to go on with another one's folder."""

    def make(*flags: str, ours: bool = True, data: Path | None = None) -> WebUIServer:
        data = data or tmp_path_factory.mktemp("data")
        link_weights(shared, data)
        return WebUIServer(data, checkpoints, hf_home, *flags, ours=ours)

    return make


@pytest.fixture(scope="session")
def server(new_server):
    """One WebUI with the extension for all tests that leave it as they found it."""
    with new_server() as running:
        yield running


@pytest.fixture(scope="session")
def scene() -> Image.Image:
    """What the small checkpoints know: sky above, sun at the right, ground below."""
    picture = Image.new("RGB", (128, 128), (80, 120, 230))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 88, 128, 128), fill=(60, 170, 40))
    draw.ellipse((75, 15, 105, 45), fill=(250, 220, 60))
    return picture


@pytest.fixture
def webui(server):
    """The running WebUI with its first checkpoint and TAESD previews at every step, all else of ours at its default."""
    server.set_options(**{option.key: option.default for option in OUR_OPTIONS} | OPTIONS)
    server.choose_checkpoint(next(iter(server.host.checkpoints)))
    return server
