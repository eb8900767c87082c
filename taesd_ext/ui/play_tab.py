"""The playground's first tab: choose a picture, press Generate, watch the live preview."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from taesd_ext.codec.embedded import embedded_families
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.preview.job import Stats
from taesd_ext.settings import OPTION, PreviewSettings
from taesd_ext.ui import compat
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.controls import AT_ONCE, line, number, picked, small_button
from taesd_ext.ui.downloads import download, download_label, missing_families
from taesd_ext.ui.markup import notice, stage, table
from taesd_ext.ui.pictures import sample_names, sample_picture
from taesd_ext.ui.play import Plan, Progress, Replays
from taesd_ext.ui.work import Task, interruptible, long_action
from taesd_ext.weights.installed import installed

OWN_PICTURE = "Your own picture"
STEPS, STEP_TIMES = (1, 60), (0, 2000)
SIZES = ("256", "384", "512", "768", "1024")


def family_choices(installed: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Choices by family, those with an encoder and a decoder file first."""
    ready = [family for family in FAMILIES if len(installed.get(family, ())) == 2]
    rest = [family for family in FAMILIES if family not in ready]
    named = [compat.choice(family, native_format(family).title) for family in ready]
    lacking = {family: "embedded" if family in embedded_families() else "no weights" for family in rest}
    return named + [compat.choice(family, f"{native_format(family).title}, {how}") for family, how in lacking.items()]


def build_play_tab(actions: PanelActions, replays: Replays, tab: gr.Tab, page: gr.Blocks) -> None:
    """Fill the tab that is being built. The first page that is opened generates by itself, so that it is not empty."""
    codecs, names = actions.codecs, sample_names()
    families = family_choices(installed(codecs.folders()))
    with gr.Row(elem_classes="taesd-ext-columns"):
        with gr.Column(scale=2, min_width=300):
            gallery = gr.Gallery(
                value=[(sample_picture(name), name) for name in names], label="Sample pictures", columns=4,
                height=132, allow_preview=False, object_fit="cover", elem_id="taesd_samples",
                elem_classes="taesd-ext-samples",
            )  # fmt: skip
            picture = gr.Image(type="pil", height=200, elem_id="taesd_picture", label=OWN_PICTURE)
            family = gr.Dropdown(
                # A page that opens sends the words of before, which ``picked`` knows by their key and gradio refuses.
                families, value=families[0], elem_id="taesd_family", label="Model family", allow_custom_value=True,
                info="the tiny autoencoder that draws the preview",
            )  # fmt: skip
            get = small_button("Download", "taesd_play_get", visible=False)
            with gr.Row():
                detail = gr.Dropdown(
                    list(OPTION["detail"].choices), value=OPTION["detail"].default, elem_id="taesd_detail",
                    min_width=130, label="Detail", info="preview size; Auto is the largest that the budget allows",
                )  # fmt: skip
                size = gr.Dropdown(
                    list(SIZES), value="512", elem_id="taesd_size", min_width=130, label="Picture size",
                    info="longer side in pixels",
                )  # fmt: skip
            with gr.Row():
                interval = gr.Slider(
                    1, 20, value=1, step=1, min_width=130, elem_id="taesd_interval", label="Preview every N steps",
                    info="1 = at every step",
                )  # fmt: skip
                budget = gr.Slider(
                    0, 100, value=50, step=1, min_width=130, elem_id="taesd_budget", label="Budget (%)",
                    info="how much of the time previews may take; 0 = no limit",
                )  # fmt: skip
            with gr.Row():
                steps = gr.Slider(
                    *STEPS, value=20, step=1, min_width=130, elem_id="taesd_steps", label="Sampling steps"
                )
                step_time = gr.Slider(
                    *STEP_TIMES, value=250, step=50, min_width=130, elem_id="taesd_step_time", label="Step time (ms)",
                    info="how long the simulated model takes for each step",
                )  # fmt: skip
        with gr.Column(scale=3, min_width=300):
            with gr.Row():
                run = gr.Button("Generate", variant="primary", elem_id="taesd_run")
                stop = gr.Button("Stop", elem_id="taesd_stop")
            preview = gr.HTML(stage(None, (1, 1), "", empty="Press Generate"), elem_id="taesd_preview")
            timings = line("taesd_timings")

    get_progress, progress = map(line, ("taesd_play_get_progress", "taesd_play_progress"))
    chosen = gr.State(names[0])

    def choose(event: gr.SelectData) -> str:
        return names[event.index]

    def play(
        task: Task, sample: str, own: Image.Image | None, family: str, detail: str, size: str, interval: float,
        budget: float, steps: float, step_time: float,
    ) -> tuple[str, list[str]]:  # fmt: skip
        family, size = compat.key_of(picked(family, families, "family")), int(picked(size, SIZES, "size"))
        chosen = {"detail": detail, "interval": interval, "budget": budget}
        settings = replace(
            PreviewSettings.from_options(actions.read_settings()), family=family, min_time=0, max_side=0,
            **{name: OPTION[name].check(value) for name, value in chosen.items()},
        )  # fmt: skip
        source, title = (sample_picture(sample), sample) if own is None else (own, OWN_PICTURE)
        steps = int(number(steps, *STEPS, "Sampling steps"))
        seconds = number(step_time, *STEP_TIMES, "Step time (ms)") / 1000
        plan = Plan(source, size, steps, seconds, settings, title)
        shown: list[str] = []
        with interruptible(task):
            for seen in replays.run(plan, task.stop.wait):
                task.check()
                shown = _shown(seen, plan, replays.session.stats)
                task.report(seen.step / steps, f"{seen.step}/{steps}", shown)
        return "", shown

    def look(chosen: str) -> list[Any]:
        choices = family_choices(installed(codecs.folders()))
        same = [choice for choice in choices if compat.key_of(choice) == compat.key_of(chosen)]
        return [gr.update(choices=choices, value=(same or choices)[0]), offer_files(chosen)]

    def offer_files(chosen: str) -> Any:
        name = compat.key_of(chosen)
        if name not in missing_families(codecs.folders()):
            return gr.update(visible=False)
        return gr.update(value=download_label(name), visible=True)

    def fetch(task: Task, chosen: str) -> tuple[str, list[Any]]:
        name = compat.key_of(picked(chosen, families, "family"))
        return download([name], actions.own_folder(), task, actions.files_changed), look(chosen)

    for event in (tab.select, page.load):
        event(look, family, [family, get], **AT_ONCE)
    family.change(offer_files, family, get, **AT_ONCE)
    long_action(get.click, stop, family, get_progress, [family, get], fetch, "taesd_play_get")
    # A picture of one's own counts until a sample is chosen again.
    gallery.select(choose, None, chosen, **AT_ONCE).then(lambda: None, None, picture, **AT_ONCE)
    inputs = [chosen, picture, family, detail, size, interval, budget, steps, step_time]
    long_action(
        run.click, stop, inputs, progress, [preview, timings], play, "taesd_run", alone=False, opening=page.load
    )


def _shown(progress: Progress, plan: Plan, stats: Stats) -> list[str]:
    """[stage, timings] as HTML."""
    frame = progress.frame
    words = ["finished" if progress.timings else f"step {progress.step} of {plan.steps}"]
    if frame:
        cost = f"{stats.milliseconds:.0f} ms a preview", f"{100 * stats.share:.1f} % of the time"
        words += [f"detail {frame.detail}", *cost]
    uri = frame and frame.image.uri
    size = frame.full_size if frame else plan.picture.size
    timings = table((), progress.timings, "taesd-ext-pairs") if progress.timings else ""
    return [stage(uri, size, " · ".join(words), empty="Waiting for the first preview"), notice(progress.note) + timings]
