"""``demo``: the panel without a WebUI, and a generation to watch the live preview at work."""

import argparse
import threading
import time
from pathlib import Path
from typing import Any

import gradio as gr

from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.commands.arguments import port_number
from taesd_ext.errors import TaesdError
from taesd_ext.home import expanded
from taesd_ext.settings import OPTIONS
from taesd_ext.ui import compat
from taesd_ext.ui.actions import Codecs, PanelActions
from taesd_ext.ui.panel import build_panel
from taesd_ext.ui.play import Replays
from taesd_ext.ui.play_tab import build_play_tab
from taesd_ext.ui.work import LEFT, leave, leave_all
from taesd_ext.weights.folders import cache_folder, search_folders

SUBTITLE = "live previews and tiny VAEs"

_ROOT = Path(__file__).resolve().parents[2]
"""The repository: style.css and javascript/ lie where WebUIs look for them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder with weight files")
    parser.add_argument("--port", type=port_number, help="on 127.0.0.1 (default: the first free one from 7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")


def run(args: argparse.Namespace) -> int:
    launch(args.models, args.port, open_browser=not args.no_browser)
    return 0


class Playground:
    """What the panel's callables do here: settings live as long as the program, everything else as in a WebUI."""

    def __init__(self, models_dir: Path | str | None = None) -> None:
        self._given = [expanded(models_dir)] if models_dir else []
        self.registry = CodecRegistry(lambda: self._given)
        self.replays = Replays(self.registry.get)
        self._settings: dict[str, Any] = {option.name: option.default for option in OPTIONS}
        self._heavy = threading.Lock()

    def files_changed(self) -> None:
        self.registry.release()
        self.replays.session.forget_error()

    def actions(self) -> PanelActions:
        return PanelActions(
            codecs=Codecs(lambda: search_folders(self._given), self.registry.get, lambda: self._heavy),
            own_folder=lambda: next(iter(self._given), cache_folder()),
            files_changed=self.files_changed,
            read_settings=lambda: dict(self._settings),
            write_setting=self._settings.__setitem__,
            session=lambda: self.replays.session,
            history=self.replays.history,
            last_error=lambda: self.replays.session.last_error,
        )


def build_page(models_dir: Path | str | None = None) -> gr.Blocks:
    """The whole page, not yet served."""
    playground = Playground(models_dir)
    actions = playground.actions()
    with compat.blocks("TAESD", _asset("style.css")) as page:
        gr.HTML(f'<h1 class="taesd-ext-title">TAESD<small>{SUBTITLE}</small></h1>')
        with gr.Tabs():
            with gr.Tab("Live preview", elem_id="taesd_tab_play") as tab:
                build_play_tab(actions, playground.replays, tab, page)
            build_panel(actions, page)
        if script := _asset("javascript/taesd_ext.js"):
            page.load(None, None, None, **compat.js(f"() => {{ {script} }}"))
    return page


def launch(models_dir: Path | str | None = None, port: int | None = None, open_browser: bool = False) -> None:
    """Serve the playground on 127.0.0.1, at the first free port from 7860 if none is given, until the user stops it.

    TaesdError when the port is taken.
    """
    page = build_page(models_dir)
    try:
        app, address = compat.launch(page, css=_asset("style.css"), port=port, open_browser=open_browser)
    except OSError as error:
        raise TaesdError("The playground cannot start", str(error), "Choose another port with --port") from error
    app.add_api_route(LEFT, leave, methods=["POST"])
    print(f"TAESD playground: {address}", flush=True)
    try:
        while True:
            time.sleep(3600)
    finally:
        leave_all()
        page.close()


def _asset(name: str) -> str:
    path = _ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""
