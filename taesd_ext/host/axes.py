"""X/Y/Z plot axes: the same picture by different decoders, and previews at different detail."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from taesd_ext.host import preview_step
from taesd_ext.host.webui import DECODE_METHOD, WebUI
from taesd_ext.settings import FINAL_VAES, OPTION
from taesd_ext.weights.installed_vaes import canonical_name

AXES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("[TAESD] VAE Decoder", DECODE_METHOD, ("Full", "TAESD")),
    ("[TAESD] Family", OPTION["family"].key, OPTION["family"].choices),
    ("[TAESD] Preview detail", OPTION["detail"].key, OPTION["detail"].choices),
)
"""Label, the option that it sets for one generation, and the values offered."""


def add_axes(host: WebUI, final_vaes: Callable[[str], list[str]]) -> None:
    """Add each axis once; the host makes its list anew on Reload UI, but not when script bodies are executed again.

    ``final_vaes`` gives what can be chosen now for one of FINAL_VAES.
    """
    plot = host.script_module("xyz_grid.py")
    if plot is None:
        return
    known = {axis.label for axis in plot.axis_options}
    axes = [(label, key, partial(list, choices)) for label, key, choices in AXES]
    axes += [(f"[TAESD] {OPTION[name].label}", OPTION[name].key, partial(final_vaes, name)) for name in FINAL_VAES]
    plot.axis_options.extend(
        plot.AxisOption(
            label, str, _override(host, key, choices), confirm=_confirm(label, choices), choices=choices
        )
        for label, key, choices in axes
        if label not in known
    )  # fmt: skip
    if preview_step.LABEL not in known:
        plot.axis_options.append(
            plot.AxisOption(preview_step.LABEL, int, preview_step.want, confirm=preview_step.confirm)
        )


def _override(host: WebUI, key: str, choices: Callable[[], Sequence[str]]) -> Callable[[Any, str, Any], None]:
    def apply(processing: Any, value: str, _values: Any) -> None:
        host.make_restorable(key)
        processing.override_settings[key] = _matching(value, choices())

    return apply


def _confirm(label: str, choices: Callable[[], Sequence[str]]) -> Callable[[Any, Sequence[str]], None]:
    """Before the first picture: a mistyped value would silently give that of another decoder."""
    what = label.removeprefix("[TAESD] ")

    def confirm(_processing: Any, values: Sequence[str]) -> None:
        known = choices()
        for value in values:
            if _matching(value, known) is None:
                raise RuntimeError(f"Unknown {what}: {value}. Choose one of {', '.join(known)}.")

    return confirm


def _matching(value: str, choices: Sequence[str]) -> str | None:
    """The choice that was meant: typed values may differ in case, as with the host's own axes."""
    meant = (value.strip().lower(), canonical_name(value).lower())
    return next((choice for choice in choices if choice.lower() in meant), None)
