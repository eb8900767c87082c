"""X/Y/Z plot axes: the same picture by different decoders, and previews at different detail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taesd_ext.host.webui import DECODE_METHOD, WebUI
from taesd_ext.settings import OPTION

AXES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("[TAESD] VAE Decoder", DECODE_METHOD, ("Full", "TAESD")),
    ("[TAESD] Family", OPTION["family"].key, OPTION["family"].choices),
    ("[TAESD] Preview detail", OPTION["detail"].key, OPTION["detail"].choices),
)
"""Label, the option that it sets for one generation, and the values offered."""


def add_axes(host: WebUI) -> None:
    """Add each axis once; the host makes its list anew on Reload UI, but not when script bodies are executed again."""
    plot = host.script_module("xyz_grid.py")
    if plot is None:
        return
    known = {axis.label for axis in plot.axis_options}
    plot.axis_options.extend(
        plot.AxisOption(label, str, _override(host, key), choices=lambda choices=choices: list(choices))
        for label, key, choices in AXES
        if label not in known
    )


def _override(host: WebUI, key: str) -> Callable[[Any, str, Any], None]:
    def apply(processing: Any, value: str, _values: Any) -> None:
        host.make_restorable(key)
        processing.override_settings[key] = value

    return apply
