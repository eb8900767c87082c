"""The panel's settings: the same values as the host's own settings page, with what they cost and how they look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from taesd_ext.codec.picture_file import image_to_picture
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import Detection
from taesd_ext.preview.job import Stats
from taesd_ext.preview.latent_keeper import KeptLatent
from taesd_ext.settings import AUTO, FAMILIES, OPTIONS, Option
from taesd_ext.ui import texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.markup import REFRESH_CLASS, counted, gallery, notice
from taesd_ext.ui.pictures import picture_uri


def cost_html(stats: Stats) -> str:
    """What the previews of the current or last job took, measured."""
    if not stats.frames:
        return notice(texts.NO_COST)
    return notice(
        f"Last job: {counted(stats.frames, 'preview')} at detail {stats.detail}, {stats.milliseconds:.1f} ms each, "
        f"{100 * stats.share:.1f} % of its {stats.elapsed:.1f} s."
    )


def build_settings_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    cost = gr.HTML(elem_id="taesd_cost")
    problem = gr.HTML(elem_id="taesd_settings_problem", elem_classes="taesd-ext-line")
    controls: list[Any] = []
    values = actions.read_settings()
    with gr.Row(elem_classes="taesd-ext-grid"):
        for option in OPTIONS:
            with gr.Column(min_width=300):
                controls.append(_control(actions, option, values.get(option.name, option.default)))
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
        return [cost_html(actions.session().stats), *shown]

    tab.select(look, None, [cost, *controls], show_progress="hidden")
    refresh.click(look, None, [cost, *controls], show_progress="hidden")
    show.click(lambda: _detail_samples(actions), None, samples)
    for option, control in zip(OPTIONS, controls, strict=True):
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


def _detail_samples(actions: PanelActions) -> str:
    """The last picture at every detail that its decoder offers, with the time that each took now."""
    kept = next(iter(actions.latents.kept()), None)
    if kept is None:
        return notice(texts.NO_LATENT)
    family = _family_of(kept, actions.read_settings().get("family", AUTO), actions.detection())
    if family is None:
        return notice(texts.NO_FAMILY)
    try:
        with actions.exclusive():
            codec = actions.codec_for(family)
            latent = kept.latent.float()
            items = []
            for detail in getattr(codec, "details", ("full",)):
                arguments = {} if detail == "full" else {"detail": detail}
                began = time.perf_counter()
                image = codec.decode(latent, **arguments)
                took = 1000 * (time.perf_counter() - began)
                picture = image_to_picture(image)
                items.append((picture_uri(picture), f"{detail} · {picture.width}x{picture.height} · {took:.0f} ms"))
    except TaesdError as error:
        return notice(str(error), "bad")
    except Exception as error:  # out of memory, say: the page stays usable
        return notice(one_line(error), "bad")
    return gallery(items)


def _family_of(kept: KeptLatent, chosen: str, detection: Detection | None) -> str | None:
    if kept.latent_format and kept.latent_format.family:
        return kept.latent_format.family
    if chosen in FAMILIES:
        return chosen
    return detection.family if detection else None
