"""The table of options as options of the host, in the sections where it has its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from taesd_ext.host.webui import DECODE_METHOD, PREVIEW_METHOD, WebUI
from taesd_ext.settings import OPTIONS, Option

_NEIGHBOUR = {"previews": PREVIEW_METHOD, "vae": DECODE_METHOD}
"""The host's option in whose section ours go; the sections' names differ between hosts."""

_FALLBACK = {"previews": ("ui", "Live previews"), "vae": ("vae", "VAE")}


def add_options(host: WebUI, names: Mapping[str, Callable[[], list[str]]]) -> None:
    """Add every option. Doing it again replaces them, and keeps what the user has set.

    ``names`` gives the choices that there are now, for each option that is a name.
    """
    for option in OPTIONS:
        neighbour = host.option_info(_NEIGHBOUR[option.section])
        section = getattr(neighbour, "section", None) or _FALLBACK[option.section]
        host.add_option(option.key, option.default, option.label, option.help, section, **_component(option, names))


def _component(option: Option, names: Mapping[str, Callable[[], list[str]]]) -> dict[str, Any]:
    if option.kind == "choice":
        return {"component": gr.Radio, "component_args": {"choices": list(option.choices)}}
    if option.kind == "name":
        choices = names[option.name]
        # The host asks anew each time it shows the option, and at a press of the button beside it.
        return {
            # gradio 3's Dropdown.update, to which the host hands the arguments too, does not know this one.
            "component": partial(gr.Dropdown, allow_custom_value=True),
            "component_args": lambda: {"choices": choices()},
            "refresh": lambda: None,
        }
    if option.kind == "bool":
        return {"component": gr.Checkbox}
    limits = {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
    return {"component": gr.Slider, "component_args": limits}
