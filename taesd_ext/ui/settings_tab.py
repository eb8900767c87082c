"""The panel's settings: the same values as the host's own settings page, with what they cost and how they look."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import gradio as gr

from taesd_ext.codec.picture_file import image_to_picture, picture_uri
from taesd_ext.commands.measuring import timed
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import native_format, to_family_latent
from taesd_ext.settings import FAMILIES, OPTIONS, Option
from taesd_ext.ui.actions import LOCKED, PanelActions
from taesd_ext.ui.controls import AT_ONCE, heading, line, refresh_button, remark, small_button
from taesd_ext.ui.markup import cost_words, gallery, notice
from taesd_ext.ui.work import Task, long_action

SAVED_AT_ONCE = "Changes are saved at once."
NO_COST = "The cost of previews is measured during the next job."


def build_settings_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    remark(SAVED_AT_ONCE if actions.allowed_to_change() else LOCKED)
    cost, problem = line("taesd_cost"), line("taesd_settings_problem")
    values = actions.read_settings()
    controls: dict[Option, Any] = {}

    def place(options: Iterable[Option]) -> None:
        with gr.Row(elem_classes="taesd-ext-grid"):
            for option in options:
                with gr.Column(min_width=300):
                    controls[option] = _control(actions, option, values[option.name])

    usual = [option for option in OPTIONS if not option.advanced]
    heading("Live previews")
    place(option for option in usual if option.section == "previews")
    heading("Final image")
    place(option for option in usual if option.section == "vae")
    with gr.Accordion("Advanced", open=False, elem_id="taesd_advanced"):
        place(option for option in OPTIONS if option.advanced)
    with gr.Row():
        show = small_button("Show the last image at each detail", "taesd_show_details")
        refresh = refresh_button("taesd_settings_refresh")
    samples = line("taesd_detail_samples")

    def look() -> list[Any]:
        """A name's choices may have changed too."""
        now = actions.read_settings()
        shown = [
            gr.update(value=now[option.name], **({"choices": _names(actions, option)} if option.kind == "name" else {}))
            for option in controls
        ]
        return [notice(cost_words(actions.session().stats) or NO_COST), *shown]

    def compare(task: Task) -> tuple[str, list[str]]:
        return "", [detail_samples(actions, task)]

    for event in (tab.select, refresh.click):
        event(look, None, [cost, *controls.values()], **AT_ONCE)
    long_action(show.click, None, None, problem, [samples], compare, "taesd_show_details")
    for option, control in controls.items():
        hosts_control = actions.hosts_controls.get(option.name)

        def write(value: Any, option: Option = option, hosts_control: Any = hosts_control) -> dict[Any, Any]:
            said = {problem: written(actions, option, value)}
            if hosts_control:
                said[hosts_control] = gr.update(value=actions.read_settings()[option.name])
            return said

        outputs = [problem, hosts_control] if hosts_control else [problem]
        control.change(write, control, outputs, **AT_ONCE)


def _names(actions: PanelActions, option: Option) -> list[str]:
    return actions.names.get(option.name, lambda: list(option.choices))()


def _control(actions: PanelActions, option: Option, value: Any) -> Any:
    words = {
        "value": value, "label": option.label, "info": option.help, "elem_id": f"taesd_option_{option.name}",
        "interactive": actions.allowed_to_change(),
    }  # fmt: skip
    if option.kind in ("choice", "name"):
        return gr.Dropdown(_names(actions, option), allow_custom_value=option.kind == "name", **words)
    if option.kind == "bool":
        return gr.Checkbox(**words)
    if option.maximum > 100:
        return gr.Number(minimum=option.minimum, maximum=option.maximum, **words)
    return gr.Slider(option.minimum, option.maximum, step=option.step, **words)


def written(actions: PanelActions, option: Option, value: Any) -> str:
    """Set an option to what a page sent; a notice where that cannot be."""
    try:
        wanted = option.check(value)
        # A value that the page only shows comes back as a change too.
        if wanted != actions.read_settings()[option.name]:
            actions.require_change()
            actions.write_setting(option.name, wanted)
    except ValueError as error:
        return notice(f"{option.label}: {error}.", "bad")
    except TaesdError as error:
        return notice(str(error), "bad")
    return ""


def detail_samples(actions: PanelActions, task: Task) -> str:
    """The last image at every detail that its decoder offers, with the time that each took. Raises TaesdError."""
    if not (finished := actions.kept()):
        raise TaesdError("There is no image yet", "", "Generate one first")
    kept = finished[0]
    chosen, detection = actions.read_settings()["family"], actions.detection()
    family = kept.latent_format.family if kept.latent_format else None
    family = family or (chosen if chosen in FAMILIES else detection.family if detection else None)
    if family is None:
        raise TaesdError("No tiny autoencoder is known for the last image's model")
    latent = to_family_latent(kept.latent.float(), kept.latent_format or native_format(family))
    with actions.codecs.in_turn(task):
        codec = actions.codecs.load(family)
        items = []
        for detail in codec.details:
            decoded = timed(partial(codec.decode, latent, detail=detail))
            picture, took = image_to_picture(decoded.result), 1000 * decoded.wall
            items.append((picture_uri(picture), f"{detail} · {picture.width}x{picture.height} · {took:.0f} ms"))
            task.report(len(items) / len(codec.details), detail)
    return gallery(items)
