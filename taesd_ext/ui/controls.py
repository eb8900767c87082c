"""Controls that several tabs have, what a page may choose in them, and how a choice outlives a list read anew."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.ui import compat

AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
"""Arguments of an event that is answered at once.

In the queue it would wait for other pages' work, and gradio 3 gives up there on a page that is a second late: its user
reads "Connection errored out."
"""


def small_button(words: str, elem_id: str, **given: Any) -> gr.Button:
    """One of several that stand side by side."""
    return gr.Button(words, elem_id=elem_id, **{"size": "sm", "min_width": 90, **given})


def refresh_button(elem_id: str) -> gr.Button:
    """javascript/taesd_ext.js presses it when the panel comes to sight again."""
    return small_button("Refresh", elem_id, scale=0, elem_classes="taesd-ext-refresh")


def line(elem_id: str | None = None, value: str = "") -> gr.HTML:
    """A place for messages, which takes no room while it is empty."""
    return gr.HTML(value, elem_id=elem_id, elem_classes="taesd-ext-line")


def heading(words: str) -> gr.HTML:
    return gr.HTML(f"<h3>{escape(words)}</h3>")


def remark(words: str) -> gr.HTML:
    """A line in small print."""
    return gr.HTML(f'<p class="taesd-ext-help">{escape(words)}</p>')


def late_dropdown(elem_id: str, **given: Any) -> gr.Dropdown:
    """A dropdown whose choices come with an event.

    Whatever a page sends is passed on: gradio 4 and later would refuse a choice that the server did not list itself,
    such as before its restart.
    """
    box = gr.Dropdown([], elem_id=elem_id, **given)
    box.preprocess = lambda value: value
    return box


def picked(chosen: Any, offered: Iterable[str], noun: str) -> str:
    """The one of ``offered`` that a page chose. Raises TaesdError for anything else.

    gradio 3.41 passes on whatever a page sends for a dropdown, a path of the server for example.
    """
    offered = list(offered)
    if isinstance(chosen, str):
        if chosen in offered:
            return chosen
        for each in offered:  # the words beside a key may have changed since the page was drawn
            if compat.key_of(each) == compat.key_of(chosen):
                return each
    raise TaesdError(f"There is no such {noun}", "", "Choose one from the list")


def number(value: Any, low: float, high: float, noun: str) -> float:
    """The number that a page sent. Raises TaesdError for what its slider cannot show."""
    if isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high:
        return value
    raise TaesdError(f"{noun} is out of range", "", f"Use {low:g} to {high:g}")


def offer(choices: Sequence[str], present: str | None) -> dict[str, Any]:
    """The dropdown with these choices. ``present`` is the one chosen; where it is gone, the first takes over."""
    value = present if present in choices else next(iter(choices), None)
    # Without a value the page keeps its own, which may be newer than ``present``.
    return gr.update(choices=list(choices), **({} if value == present and value else {"value": value}))


def offer_newest(choices: Sequence[str], present: str | None, newest: str) -> tuple[dict[str, Any], str]:
    """Of choices that begin with a key, newest first: (the dropdown, the newest one's key).

    An entry that was chosen stays, also under other words; but who had the newest (``newest``: its key the last time)
    goes on to what is the newest now.
    """
    key, first = compat.key_of(present), next(iter(choices), None)
    same = next((choice for choice in choices if key not in ("", newest) and compat.key_of(choice) == key), first)
    update = offer(choices, same)
    return update if same == present else update | {"value": same}, compat.key_of(first)
