"""The moment that the live preview shows, as a full picture: javascript/taesd_ext.js brings this box beside it."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.controls import line, small_button
from taesd_ext.ui.decoded_box import DecodedBox
from taesd_ext.ui.decoding import decoder_names
from taesd_ext.ui.work import Task, long_action

NOT_KEPT = 'This moment is not kept. Switch on "TAESD keeps the latents of the last images" in Settings > VAE.'

ELEM_ID = "taesd_live_moment"


def build_live_moment(actions: PanelActions) -> None:
    """Hidden until the page asks for a moment. The newest wish counts: every moment is in the timeline anyway."""
    with gr.Column(elem_id=ELEM_ID, elem_classes="taesd-ext-hidden"):
        # "job/step/what tells one press from the next", as javascript/taesd_ext.js writes it.
        wanted = gr.Textbox(elem_id=f"{ELEM_ID}_wanted", elem_classes="taesd-ext-hidden")
        result = line(f"{ELEM_ID}_result")
        with gr.Row():
            save = small_button("Save", f"{ELEM_ID}_save")
            close = small_button("Close", f"{ELEM_ID}_close")
        box = DecodedBox(actions, ELEM_ID, save, result)

    def decode(task: Task, wanted: Any, last: Any) -> tuple[str, list[Any]]:
        named = re.match(r"(\d{1,9})/(\d{1,9})/", str(wanted))
        job, step = map(int, named.groups()) if named else (0, 0)
        moments = [kept for kept in actions.moments(job) if kept.step == step]
        if not moments:
            raise TaesdError(NOT_KEPT)
        kept = min(moments, key=lambda kept: kept.picture)
        of_several = f", image {kept.picture} of {len(moments)}" if len(moments) > 1 else ""
        task.report(0.05, f"Step {step}/{kept.steps}{of_several}: in turn, after what is being generated")
        return box.decode(task, kept, next(iter(decoder_names(actions.codecs, kept)), None), last)

    long_action(wanted.change, close, [wanted, box.last], result, box.outputs, decode, ELEM_ID, alone=False)
