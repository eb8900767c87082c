"""The table of options as options of the host: added in the sections where it has its own, read, and set."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from taesd_ext.host.generation import Choices
from taesd_ext.host.webui import DECODE_METHOD, PREVIEW_METHOD, WebUI
from taesd_ext.settings import OPTION, OPTIONS, Option, PreviewSettings, option_value
from taesd_ext.ui import compat
from taesd_ext.ui.actions import require
from taesd_ext.weights.installed_vaes import canonical_name

_NEIGHBOUR = {"previews": PREVIEW_METHOD, "vae": DECODE_METHOD}
"""The host's option in whose section ours go; the sections' names differ between hosts."""

_FALLBACK = {"previews": ("ui", "Live previews"), "vae": ("vae", "VAE")}

_ADVANCED = ("taesd_ext", "TAESD (advanced)")
"""The section of the rarely needed ones, which would hide the others."""


class HostOptions:
    """Our options in the host. ``names(option)`` gives what can be chosen now for one that is a name."""

    def __init__(self, host: WebUI, names: Callable[[str], list[str]]) -> None:
        self._host = host
        self._names = names

    def add(self) -> None:
        """Add every option. Doing it again replaces them, and keeps what the user has set."""
        for option in OPTIONS:
            neighbour = self._host.option_info(_NEIGHBOUR[option.section])
            section = getattr(neighbour, "section", None) or _FALLBACK[option.section]
            section = _ADVANCED if option.advanced else section
            self._host.add_option(
                option.key, option.default, option.label, option.help, section, **self._component(option)
            )

    def value(self, name: str) -> Any:
        """An option's checked value."""
        return option_value(name, self._values())

    def values(self) -> dict[str, Any]:
        """Every option's checked value, by name."""
        return {option.name: self.value(option.name) for option in OPTIONS}

    def choices(self, name: str) -> list[str]:
        """What an option offers now; empty for numbers and switches."""
        return self._names(name) if OPTION[name].kind == "name" else list(OPTION[name].choices)

    def set(self, name: str, value: Any) -> None:
        """Set an option and save it. Raises ValueError for what it cannot be, TaesdError where it may not be set."""
        require(self._host.allows_changes())
        option = OPTION[name]
        value = option.check(value)
        if option.kind == "name":
            value, choices = canonical_name(value), self.choices(name)
            if value not in choices and value != self.value(name):
                raise ValueError(f"one of {', '.join(choices)} was expected")
        self._host.set_option(option.key, value)

    def previews(self, choices: Choices) -> PreviewSettings:
        """The options now, then the choices of the running generation, then what the host has a say in."""
        settings = choices.apply(PreviewSettings.from_options(self._values()))
        return replace(
            settings,
            interval=settings.interval or max(1, self._host.preview_period()),
            frame_format=self._host.frame_format() or settings.frame_format,
        )

    def _values(self) -> dict[str, Any]:
        return {option.key: self._host.option(option.key) for option in OPTIONS}

    def _component(self, option: Option) -> dict[str, Any]:
        if option.kind == "choice":
            return {"component": gr.Radio, "component_args": {"choices": list(option.choices)}}
        if option.kind == "name":
            # gradio 3's Dropdown.update, to which the host hands its arguments too, does not know this one.
            more: dict[str, Any] = {"allow_custom_value": True}
            if compat.MAJOR >= 4:
                more["info"] = option.help  # the page of newer hosts finds no place for the help of a Dropdown
            # The host asks anew each time it shows the option, and at a press of the button beside it.
            return {
                "component": partial(gr.Dropdown, **more),
                "component_args": lambda: {"choices": self._names(option.name)},
                "refresh": lambda: None,
            }
        if option.kind == "bool":
            return {"component": gr.Checkbox}
        limits = {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
        return {"component": gr.Slider, "component_args": limits}
