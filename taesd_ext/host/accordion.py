"""The per-generation controls: an accordion in txt2img and img2img, the same by the API."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from taesd_ext.errors import log_once
from taesd_ext.host.generation import Choices
from taesd_ext.settings import AS_FINAL, HOSTS_VAE, INFOTEXT_FIRST_VAE, INFOTEXT_VAE, OPTION
from taesd_ext.weights.installed_vaes import canonical_name

TITLE = "TAESD preview"
"""The script's name; API users pass alwayson_scripts: {"taesd preview": {"args": [...]}}."""

AS_SET = "as in Settings"

SECOND_SCREEN = "Live preview on a second screen"
SECOND_SCREEN_PATH = "/taesd/preview"

ARGUMENTS = ("enabled", "family", "interval", "detail", "final_vae", "final_vae_first")
"""Order of the arguments. It is part of the API: new ones are added at the end."""


PAGE = len(ARGUMENTS)
"""Place of the last argument, which is the page's own: what tells the jobs that it started from all others."""


def build(
    elem_id: Callable[[str], str], change: Callable[[Choices, str], None], final_vaes: Sequence[str],
    cost: Callable[[], str] = str, second_screen: bool = False, *, hires_fix: bool = True,
) -> list[Any]:  # fmt: skip
    """The controls, in the order of ARGUMENTS, and what tells the page.

    ``change(choices, page)`` hears of each change, while a generation of the page's may run. ``cost()`` says what the
    last job's previews took, ``second_screen`` says whether there is a link to that page. Without ``hires_fix`` there
    is no first pass to choose for.
    """

    def dropdown(name: str, label: str, choices: Sequence[str], **more: Any) -> Any:
        return gr.Dropdown(
            [AS_SET, *choices], value=AS_SET, label=label, min_width=130, elem_id=elem_id(name), **more
        )

    with gr.Accordion("TAESD", open=False, elem_id=elem_id("accordion")):
        with gr.Row():
            enabled = gr.Checkbox(True, label="Live previews", min_width=130, elem_id=elem_id("enabled"))
            detail = dropdown("detail", label="Preview detail", choices=OPTION["detail"].choices)
            family = dropdown("family", label="Preview family", choices=OPTION["family"].choices)
            final_vae = dropdown("final_vae", OPTION["final_vae"].label, final_vaes, allow_custom_value=True)
            first_vae = dropdown(
                "final_vae_first", OPTION["final_vae_first"].label, [AS_FINAL, *final_vaes], allow_custom_value=True,
                visible=hires_fix,
            )  # fmt: skip
        interval = gr.Slider(
            0, 50, value=0, step=1, label="Preview interval in steps (0 = as in Settings)", elem_id=elem_id("interval")
        )
        gr.HTML(lambda: f'<span class="taesd-ext-cost">{escape(cost())}</span>')
        if second_screen:
            link = f'class="taesd-ext-second-screen" href=".{SECOND_SCREEN_PATH}" target="_blank"'
            gr.HTML(f"<a {link}>{SECOND_SCREEN}</a>")
        # For the button on the live preview: pauses the running job only, and is no argument of the next.
        paused = gr.Checkbox(False, label="Pause previews", elem_id=elem_id("paused"), elem_classes="taesd-hidden")
    page = gr.State(lambda: secrets.token_hex(8))  # asked for by each page that is loaded
    page.value = ""  # what the API sends
    controls = [enabled, family, interval, detail, final_vae, first_vae, page]

    def changed(is_paused: bool, *values: Any) -> None:
        choices = choices_of(values)
        change(replace(choices, enabled=choices.enabled and not is_paused), page_of(values))

    for control in (paused, *controls[:PAGE]):
        control.change(changed, inputs=[paused, *controls], outputs=[], queue=False)
    return controls


def page_of(arguments: Sequence[Any]) -> str:
    """The page that arguments come from; empty for the API."""
    page = arguments[PAGE] if len(arguments) > PAGE else ""
    return page if isinstance(page, str) else ""


def choices_of(arguments: Sequence[Any]) -> Choices:
    """Arguments as the page or the API gives them -> choices. Bad or missing ones mean "as in Settings".

    By the API the first argument may also be an object: {"enabled": false, "detail": "1/4"}.
    """
    given = (
        arguments[0] if arguments and isinstance(arguments[0], dict) else dict(zip(ARGUMENTS, arguments, strict=False))
    )
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        if name == "enabled":
            chosen[name] = _truth(name, value)
        elif name not in ARGUMENTS:
            log_once(f"argument {name}", f"{TITLE} has no argument {name!r}; it has {', '.join(ARGUMENTS)}.")
        elif value not in (None, AS_SET, "", 0):
            try:
                chosen[name] = OPTION[name].check(value)
            except ValueError as error:
                log_once(f"argument {name} {value!r}", f"{TITLE}: {name} cannot be {value!r}: {error}.")
    return Choices(**chosen)


def _truth(name: str, value: Any) -> bool:
    """True or false, also as 1 and 0 or in words, as scripts that call the API write them; nothing means true."""
    known = {"true": True, "1": True, "1.0": True, "none": True, "": True, "false": False, "0": False, "0.0": False}
    meant = known.get(str(value).strip().lower())
    if meant is None:
        log_once(f"argument {name} {value!r}", f"{TITLE}: {name} cannot be {value!r}: true or false was expected.")
    return meant is not False


def pasted_final_vae(parameters: Mapping[str, Any], in_settings: str) -> str:
    """The choice that makes a picture of these generation parameters again; ``in_settings`` is what is set there."""
    recorded = parameters.get(INFOTEXT_VAE)
    name = canonical_name(str(recorded)) if recorded else HOSTS_VAE
    return AS_SET if name == in_settings else name


def pasted_first_vae(parameters: Mapping[str, Any], in_settings: str) -> str:
    """The same for the first pass of hires fix; ``in_settings`` is empty where a pass has its own VAE there."""
    recorded = parameters.get(INFOTEXT_FIRST_VAE)
    if recorded:
        return canonical_name(str(recorded))
    return AS_SET if in_settings else AS_FINAL
