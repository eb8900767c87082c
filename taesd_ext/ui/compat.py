"""What differs between gradio 3.41, 4 and 6, in one place; the rest of ui/ uses only what all of them have."""

import inspect
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError

MAJOR = int(gr.__version__.split(".")[0])

_SEPARATOR = " · "


def js(code: str) -> dict[str, str]:
    """The argument that runs ``code`` in the browser with an event: ``button.click(fn, ..., **js("() => ..."))``."""
    return {"js" if MAJOR >= 4 else "_js": code}


def known(function: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that this gradio's function takes by name."""
    taken = inspect.signature(function).parameters
    return {name: value for name, value in arguments.items() if name in taken}


def blocks(title: str, css: str) -> gr.Blocks:
    """An empty page. gradio 6 wants its style at launch, see :func:`launch`."""
    own_css = {} if known(gr.Blocks.launch, {"css": css}) else {"css": css}
    return gr.Blocks(title=title, analytics_enabled=False, **own_css)


def choice(key: object, words: str) -> str:
    """A dropdown's choice that carries its key: gradio 3.41 cannot update (label, value) pairs."""
    return f"{key}{_SEPARATOR}{words}" if words else str(key)


def key_of(chosen: Any) -> str:
    """The key of what was chosen, "" for nothing."""
    return str(chosen or "").split(_SEPARATOR)[0]


def file_box(label: str, **arguments: Any) -> gr.File:
    """A file upload whose value is read with :func:`file_path`."""
    box = gr.File(label=label, type="filepath" if MAJOR >= 4 else "file", **arguments)
    if MAJOR < 4:
        box.preprocess = _uploads_only(box.preprocess)
    return box


def _uploads_only(preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """gradio 3.41 copies whichever file of the server a page names; later ones refuse what was not uploaded."""
    uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()

    def checked(value: Any) -> Any:
        for file in value if isinstance(value, list) else [value] if value else []:
            if file.get("is_file") and uploads not in Path(file["name"]).resolve().parents:
                raise TaesdError("This file was not uploaded")
        return preprocess(value)

    return checked


def file_path(value: Any) -> str | None:
    """Where an uploaded file lies: gradio 3 gives an open file, later ones a path."""
    return None if value is None else str(getattr(value, "name", value))


def changes_by_user(image: gr.Image) -> list[Any]:
    """The events by which a person, and nothing else, puts another picture there or takes it away."""
    return [getattr(image, name) for name in ("upload", "clear", "edit", "input") if hasattr(image, name)]


def copy_button() -> dict[str, Any]:
    """The argument that gives a textbox a button to copy its text."""
    return known(gr.Textbox.__init__, {"show_copy_button": True, "buttons": ["copy"]})


def launch(page: gr.Blocks, *, css: str, port: int | None, open_browser: bool) -> tuple[Any, str]:
    """Serve the page on 127.0.0.1 only; (its FastAPI app, its address). The server runs in a thread of its own."""
    wanted = {
        "css": css, "server_name": "127.0.0.1", "server_port": port, "inbrowser": open_browser, "share": False,
        "prevent_thread_lock": True, "quiet": True, "show_api": False, "footer_links": [], "ssr_mode": False,
    }  # fmt: skip
    app, address, _ = page.launch(**known(page.launch, wanted))
    return app, address
