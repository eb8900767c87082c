"""The panel's timeline: the previews of the last jobs, to scrub through and to save as a film."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.preview.animation import KINDS, AnimationPlan, animate, picked_frames
from taesd_ext.preview.recorder import RecordedFrame, RecordedJob, Recorder
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.choices import offer_newest
from taesd_ext.ui.markup import REFRESH_CLASS, counted, film, notice
from taesd_ext.ui.pictures import data_uri, offered_file

MOST_SHOWN = 120
"""Frames on the page; of more, an even choice is shown."""


def job_choice(job: RecordedJob) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(job.started))
    return compat.choice(job.id, f"{clock} · {counted(len(job.frames), 'preview')} · {job.title[:60]}".rstrip(" ·"))


def frame_words(frame: RecordedFrame, steps: int) -> str:
    total = f"/{steps}" if steps else ""
    return f"step {frame.step}{total} · detail {frame.detail} · {frame.milliseconds:.0f} ms"


def film_html(job: RecordedJob | None) -> str:
    if job is None or not job.frames:
        return notice(texts.NO_TIMELINE)
    last = len(job.frames) - 1
    shown = min(last, MOST_SHOWN - 1)
    chosen = [round(place * last / max(shown, 1)) for place in range(shown + 1)]
    frames = [job.frames[index] for index in chosen]
    return film(
        [(data_uri(frame.data, frame.wire_format), frame_words(frame, job.steps)) for frame in frames],
        frames[-1].full_size,
    )


def build_timeline_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    recorder = actions.recorder
    with gr.Row():
        job = gr.Dropdown([], elem_id="taesd_job", scale=3, **texts.JOB.control())
        refresh = gr.Button(
            texts.REFRESH.label, scale=0, min_width=90, size="sm", elem_id="taesd_timeline_refresh",
            elem_classes=REFRESH_CLASS,
        )  # fmt: skip
    strip = gr.HTML(film_html(None), elem_id="taesd_film")
    with gr.Row():
        kinds = list(KINDS)
        kind = gr.Dropdown(kinds, value=kinds[0], min_width=110, elem_id="taesd_film_kind", **texts.FILM_KIND.control())
        length = gr.Slider(
            0.5, 20, value=4, step=0.5, min_width=140, elem_id="taesd_film_length", **texts.FILM_LENGTH.control()
        )
        hold = gr.Slider(
            0, 10, value=1.5, step=0.5, min_width=140, elem_id="taesd_film_hold", **texts.FILM_HOLD.control()
        )
        side = gr.Slider(
            64, 1024, value=512, step=64, min_width=140, elem_id="taesd_film_side", **texts.FILM_SIDE.control()
        )
        save = gr.Button(texts.SAVE_FILM.label, variant="primary", size="sm", min_width=110, elem_id="taesd_film_save")
    result = gr.HTML(elem_id="taesd_film_result", elem_classes="taesd-ext-line")
    saved = compat.file_box(texts.FILM_FILE.label, interactive=False, visible=False, elem_id="taesd_film_file")

    present, newest = gr.State(None), gr.State("")

    def look(present: str | None, newest: str) -> list[Any]:
        update, value, now = offer_newest([job_choice(job) for job in recorder.jobs()], present, newest)
        # An older job's frames do not change any more, and its film may be playing.
        still = value is not None and value == present and compat.key_of(value) != now
        return [update, gr.update() if still else film_html(find_or_none(recorder, value)), now]

    def choose(choice: str | None) -> list[Any]:
        return [film_html(find_or_none(recorder, choice)), choice]

    def make(choice: Any, kind: str, length: float, hold: float, side: float) -> list[Any]:
        try:
            chosen = find_job(recorder, choice)
            plan = AnimationPlan(kind, float(length), float(hold), int(side))
            frames = picked_frames(chosen.frames, plan)
            data = animate(frames, plan)
        except TaesdError as error:
            return [notice(str(error), "bad"), gr.update(visible=False)]
        share = f" of {len(chosen.frames):,}" if len(frames) < len(chosen.frames) else ""
        words = notice(f"{counted(len(frames), 'frame')}{share}, {len(data):,} bytes.", "good")
        return [words, gr.update(value=offered_file(f"preview_{chosen.id}.{kind}", data), visible=True)]

    for event in (tab.select, refresh.click):
        event(look, [present, newest], [job, strip, newest], show_progress="hidden")
    job.change(choose, job, [strip, present], show_progress="hidden")
    save.click(make, [job, kind, length, hold, side], [result, saved])


def find_or_none(recorder: Recorder, choice: Any) -> RecordedJob | None:
    """The job of a choice that a page sends."""
    try:
        return recorder.job(int(compat.key_of(choice)))
    except (TypeError, ValueError):
        return None


def find_job(recorder: Recorder, choice: Any) -> RecordedJob:
    job = find_or_none(recorder, choice)
    if job is None:
        raise TaesdError("That job's previews are gone", "newer ones took their place", "Choose another job")
    return job
