"""The events of a built page, and long work followed to its end."""

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr

from taesd_ext.ui.work import LongAction


def events(page: gr.Blocks) -> list[tuple[Callable[..., Any] | None, dict[str, Any]]]:
    """(function, its row of the page's configuration) of all events."""
    rows = page.get_config_file()["dependencies"]
    return [(page.fns[row.get("id", place)].fn, row) for place, row in enumerate(rows)]


def pressed(page: gr.Blocks, elem_id: str) -> Callable[..., Any]:
    """What a button's press calls."""
    (button,) = (key for key, block in page.blocks.items() if getattr(block, "elem_id", None) == elem_id)
    for function, row in events(page):
        if button in [target if isinstance(target, int) else target[0] for target in row["targets"]]:
            return function
    raise AssertionError(f"{elem_id} has no press")


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def finished(action: LongAction, key: str) -> list[Any]:
    """What the page is told at the end: [progress, *outputs]."""
    wait_for(lambda: "data-task" not in action.look(key)[0])
    return action.look(key)
