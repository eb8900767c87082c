"""The panel's timeline: the previews of the last jobs, to scrub through and to save as a film."""

import time
from functools import partial
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.preview.animation import KINDS, AnimationPlan, animate, picked_frames
from taesd_ext.preview.recorded import KeptLatent, RecordedJob
from taesd_ext.ui import compat
from taesd_ext.ui.actions import NOT_SHOWN, PanelActions
from taesd_ext.ui.controls import AT_ONCE, late_dropdown, line, offer_newest, refresh_button, small_button
from taesd_ext.ui.live_moment import build_live_moment
from taesd_ext.ui.markup import counted, film, notice
from taesd_ext.ui.pictures import offered_file
from taesd_ext.ui.redecode_box import build_redecode_box, latent_choice
from taesd_ext.ui.work import Task, long_action

NO_TIMELINE = "No previews yet. They appear here while and after images are generated."

MOST_SHOWN = 120
"""Frames on the page; of more, an even choice is shown."""

FILM_SIDES = (64, 1024)
"""Pixels."""


def job_choice(job: RecordedJob) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(job.started))
    marks = ["within another job" if job.inner else "", "" if job.finished else "unfinished"]
    words = [clock, counted(len(job.frames), "preview"), *marks, job.title[:60]]
    return compat.choice(f"job {job.id}", " · ".join(filter(None, words)))


def find_job(actions: PanelActions, choice: Any) -> RecordedJob | None:
    """The job of a choice that a page sends; None where it is gone, or never was."""
    key = compat.key_of(choice)
    return next((job for job in actions.jobs() if f"job {job.id}" == key), None)


def moments_of(actions: PanelActions, choice: Any) -> list[KeptLatent]:
    """The latents of the job of a choice, or of the newest one."""
    job = find_job(actions, choice) or next(iter(actions.jobs()), None)
    return actions.moments(job.id) if job else []


def film_html(job: RecordedJob | None) -> str:
    if job is None or not job.frames:
        return notice(NO_TIMELINE)
    last = len(job.frames) - 1
    shown = min(last, MOST_SHOWN - 1)
    total = f"/{job.steps}" if job.steps else ""
    strip = []
    for frame in (job.frames[round(place * last / max(shown, 1))] for place in range(shown + 1)):
        words = f"step {frame.step}{total} · detail {frame.detail} · {frame.milliseconds:.0f} ms"
        strip.append((frame.image.uri, words))
    return film(strip, job.frames[-1].full_size)


def build_timeline_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        job = late_dropdown("taesd_job", scale=3, label="Job", info="previews of the last jobs, newest first")
        refresh = refresh_button("taesd_timeline_refresh")
    strip = gr.HTML(notice(NO_TIMELINE if actions.allowed_to_change() else NOT_SHOWN), elem_id="taesd_film")
    words = {"label": "Moment", "info": "each step's prediction and the finished image, newest first"}
    offered = partial(moments_of, actions)
    moment = build_redecode_box(actions, tab, "taesd_moment", words, offered, job, button="Full picture")
    # javascript/taesd_ext.js writes there what a frame that was pressed is called.
    seen = gr.Textbox(elem_id="taesd_moment_seen", elem_classes="taesd-ext-hidden")
    with gr.Row():
        kinds = list(KINDS)
        kind = gr.Dropdown(kinds, value=kinds[0], min_width=110, elem_id="taesd_film_kind", label="Format")
        length = gr.Slider(0.5, 20, value=4, step=0.5, min_width=140, elem_id="taesd_film_length", label="Length (s)")
        hold = gr.Slider(0, 10, value=1.5, step=0.5, min_width=140, elem_id="taesd_film_hold", label="Last frame (s)")
        side = gr.Slider(
            *FILM_SIDES, value=512, step=64, min_width=140, elem_id="taesd_film_side", label="Largest side (px)"
        )
        save = small_button("Save film", "taesd_film_save", variant="primary", min_width=110)
    result = line("taesd_film_result")
    build_live_moment(actions)
    saved = compat.file_box("Film", interactive=False, visible=False, elem_id="taesd_film_file")

    newest = gr.State("")

    def look(chosen: str | None, newest: str) -> tuple[dict[str, Any], str]:
        # The film follows by the dropdown's own change: shown here too, it would come twice, the second time over the
        # frame that the user went to meanwhile.
        return offer_newest([job_choice(job) for job in actions.jobs()], chosen, newest)

    def follow(seen: str, choice: Any) -> dict[str, Any]:
        step, latents = str(seen).partition("/")[0], offered(choice)
        latent = next((kept for kept in latents if step == f"step {kept.step}"), None)
        return gr.update(choices=[*map(latent_choice, latents)], value=latent_choice(latent)) if latent else gr.update()

    def make(task: Task, choice: Any, kind: str, length: float, hold: float, side: float) -> tuple[str, list[Any]]:
        chosen = find_job(actions, choice)
        if chosen is None:
            raise TaesdError("That job's previews are gone", "newer ones took their place", "Choose another job")
        plan = AnimationPlan(kind, float(length), float(hold), int(side))
        frames = picked_frames(chosen.frames, plan)
        task.report(0.1, counted(len(frames), "frame"))
        data = animate(frames, plan)
        share = f" of {len(chosen.frames):,}" if len(frames) < len(chosen.frames) else ""
        file = gr.update(value=offered_file(f"preview_{chosen.id}.{kind}", data), visible=True)
        return f"{counted(len(frames), 'frame')}{share}, {len(data):,} bytes.", [file]

    for event in (tab.select, refresh.click):
        event(look, [job, newest], [job, newest], **AT_ONCE)
    job.change(lambda choice: film_html(find_job(actions, choice)), job, strip, **AT_ONCE)
    seen.change(follow, [seen, job], moment, **AT_ONCE)
    long_action(save.click, None, [job, kind, length, hold, side], result, [saved], make, "taesd_film_save")
