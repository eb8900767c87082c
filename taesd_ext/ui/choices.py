"""What a page may choose, and what a dropdown shows when its list is read anew: the choice stays while it is there."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.ui import compat


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
