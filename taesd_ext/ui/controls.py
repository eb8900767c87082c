"""Controls that several tabs have."""

from html import escape
from typing import Any

import gradio as gr

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
