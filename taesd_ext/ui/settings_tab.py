"""The panel's settings: the same values as the host's own settings page, with what they cost and how they look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import gradio as gr

from taesd_ext.codec.picture_file import image_to_picture
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import Detection
from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.settings import AUTO, FAMILIES, OPTIONS, Option
from taesd_ext.ui import texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.markup import REFRESH_CLASS, cost_words, gallery, notice
from taesd_ext.ui.pictures import picture_uri
from taesd_ext.ui.work import Task, interruptible, long_action


def build_settings_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    help_line = texts.SAVED_AT_ONCE if actions.allowed_to_change() else texts.LOCKED
    gr.HTML(f'<p class="taesd-ext-help">{escape(help_line)}</p>')
    cost = gr.HTML(elem_id="taesd_cost")
    problem = gr.HTML(elem_id="taesd_settings_problem", elem_classes="taesd-ext-line")
    values, controls = actions.read_settings(), {}

    def place(options: Iterable[Option]) -> None:
        with gr.Row(elem_classes="taesd-ext-grid"):
            for option in options:
                with gr.Column(min_width=300):
                    controls[option.name] = _control(actions, option, values.get(option.name, option.default))

    for section, title in (("previews", texts.PREVIEWS), ("vae", texts.FINAL_IMAGE)):
        gr.HTML(f"<h3>{title.label}</h3>")
        place(option for option in OPTIONS if option.section == section and not option.advanced)
    with gr.Accordion(texts.ADVANCED.label, open=False, elem_id="taesd_advanced"):
        place(option for option in OPTIONS if option.advanced)
    with gr.Row():
        show = gr.Button(texts.SHOW_DETAILS.label, size="sm", elem_id="taesd_show_details")
        refresh = gr.Button(
            texts.REFRESH.label, scale=0, min_width=90, size="sm", elem_id="taesd_settings_refresh",
            elem_classes=REFRESH_CLASS,
        )  # fmt: skip
    samples = gr.HTML(elem_id="taesd_detail_samples", elem_classes="taesd-ext-line")

    def look() -> list[Any]:
        now = actions.read_settings()
        shown = [_shown(actions, option, now.get(option.name, option.default)) for option in OPTIONS]
        return [notice(cost_words(actions.session().stats) or texts.NO_COST), *shown]

    def compare(task: Task) -> tuple[str, list[str]]:
        return "", [_detail_samples(actions, task)]

    for event in (tab.select, refresh.click):
        event(look, None, [cost, *(controls[option.name] for option in OPTIONS)], show_progress="hidden")
    long_action(show.click, None, None, problem, [samples], compare, "taesd_show_details")
    for option in OPTIONS:
        control = controls[option.name]
        write, shown = _writer(actions, option), [problem]
        if hosts_control := actions.hosts_controls.get(option.name):
            write, shown = _and_show_to_host(actions, option, write), [problem, hosts_control]
        control.change(write, control, shown, show_progress="hidden")


def _names(actions: PanelActions, option: Option) -> list[str]:
    return actions.names.get(option.name, lambda: list(option.choices))()


def _shown(actions: PanelActions, option: Option, value: Any) -> Any:
    """What brings a control up to date."""
    return gr.update(choices=_names(actions, option), value=value) if option.kind == "name" else value


def _control(actions: PanelActions, option: Option, value: Any) -> Any:
    words = {"label": option.label, "info": option.help, "elem_id": f"taesd_option_{option.name}"}
    words["interactive"] = actions.allowed_to_change()
    if option.kind == "choice":
        return gr.Dropdown(list(option.choices), value=value, **words)
    if option.kind == "name":
        return gr.Dropdown(_names(actions, option), value=value, allow_custom_value=True, **words)
    if option.kind == "bool":
        return gr.Checkbox(value=value, **words)
    if option.maximum > 100:
        return gr.Number(value=value, minimum=option.minimum, maximum=option.maximum, **words)
    return gr.Slider(option.minimum, option.maximum, value=value, step=option.step, **words)


def _writer(actions: PanelActions, option: Option) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        try:
            wanted = option.check(value)
            # A value that the page only shows comes back as a change too.
            if wanted != actions.read_settings().get(option.name):
                actions.require_change()
                actions.write_setting(option.name, wanted)
        except ValueError as error:
            return notice(f"{option.label}: {error}.", "bad")
        except TaesdError as error:
            return notice(str(error), "bad")
        return ""

    return write


def _and_show_to_host(
    actions: PanelActions, option: Option, write: Callable[[Any], str]
) -> Callable[[Any], tuple[str, Any]]:
    def write_and_show(value: Any) -> tuple[str, Any]:
        return write(value), gr.update(value=actions.read_settings()[option.name])

    return write_and_show


def _detail_samples(actions: PanelActions, task: Task) -> str:
    """The last image at every detail that its decoder offers, with the time that each took. Raises TaesdError."""
    kept = next(iter(actions.kept()), None)
    if kept is None:
        raise TaesdError(texts.NO_LATENT)
    family = _family_of(kept, actions.read_settings().get("family", AUTO), actions.detection())
    if family is None:
        raise TaesdError(texts.NO_FAMILY)
    with actions.exclusive(), interruptible(task):
        codec = actions.codec_for(family)
        latent = kept.latent.float()
        items = []
        for detail in codec.details:
            began = time.perf_counter()
            image = codec.decode(latent, **({} if detail == "full" else {"detail": detail}))
            took = 1000 * (time.perf_counter() - began)
            picture = image_to_picture(image)
            items.append((picture_uri(picture), f"{detail} · {picture.width}x{picture.height} · {took:.0f} ms"))
            task.report(len(items) / len(codec.details), detail)
    return gallery(items)


def _family_of(kept: KeptLatent, chosen: str, detection: Detection | None) -> str | None:
    if kept.latent_format and kept.latent_format.family:
        return kept.latent_format.family
    if chosen in FAMILIES:
        return chosen
    return detection.family if detection else None
