"""The playground: the panel without a WebUI, and a pretended generation to watch the live preview at work."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import gradio as gr

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.ui import compat, texts
from taesd_ext.ui.play_tab import build_play_tab
from taesd_ext.weights.folders import installed, search_folders

_ROOT = Path(__file__).resolve().parents[2]
"""The repository: style.css and javascript/ lie where WebUIs look for them."""


class CodecShelf:
    """Each codec is loaded once, at its first use."""

    def __init__(self, models_dir: Path | str | None = None) -> None:
        self.models_dir = models_dir
        self._codecs: dict[str, Codec] = {}
        self._lock = threading.Lock()

    def __call__(self, family: str) -> Codec:
        with self._lock:
            if family not in self._codecs:
                self._codecs[family] = load_codec(family, models_dir=self.models_dir)
            return self._codecs[family]


def build_page(models_dir: Path | str | None = None) -> gr.Blocks:
    """The whole page, not yet served."""
    shelf = CodecShelf(models_dir)
    with compat.blocks(texts.TITLE, _asset("style.css")) as page:
        gr.HTML(f'<h1 class="taesd-ext-title">{texts.TITLE}<small>{texts.SUBTITLE}</small></h1>')
        with gr.Tabs(), gr.Tab(texts.PLAY.label):
            build_play_tab(shelf, installed(search_folders(models_dir)))
    return page


def launch(
    *, port: int | None = None, models_dir: Path | str | None = None, open_browser: bool = True, block: bool = True
) -> gr.Blocks:
    """Serve the playground on 127.0.0.1, at the first free port from 7860 if none is given.

    Returns once the page answers, or with ``block`` when the user stops it. TaesdError when the port is taken.
    """
    page = build_page(models_dir)
    try:
        address = compat.launch(page, css=_asset("style.css"), port=port, open_browser=open_browser)
    except OSError as error:
        raise TaesdError("The playground cannot start", str(error), "Choose another port with --port") from error
    print(f"TAESD playground: {address}", flush=True)
    if block:
        try:
            while True:
                time.sleep(3600)
        finally:
            page.close()
    return page


def _asset(name: str) -> str:
    path = _ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""
