"""A full picture beside the WebUI's gallery, where javascript/taesd_ext.js brings this box.

Of the moment that the live preview shows, or of the finished image in the gallery.
"""

import re
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.controls import late_dropdown, line, offer, small_button
from taesd_ext.ui.decoded_box import DecodedBox
from taesd_ext.ui.decoding import decoder_names
from taesd_ext.ui.work import Task, long_action

NOT_KEPT = 'This moment is not kept. Switch on "TAESD keeps the latents of the last images" under TAESD > Settings.'

ELEM_ID = "taesd_live_moment"


def build_live_moment(actions: PanelActions) -> None:
    """Hidden until the page asks for one. A page's newest wish counts: everything is in the timeline anyway."""
    with gr.Column(elem_id=ELEM_ID, elem_classes="taesd-ext-hidden"):
        # "job/step" or an image's parameters, and below them what tells one press from the next.
        wanted = gr.Textbox(elem_id=f"{ELEM_ID}_wanted", elem_classes="taesd-ext-hidden")
        result = line(f"{ELEM_ID}_result")
        with gr.Row():
            decoder = late_dropdown(f"{ELEM_ID}_decoder", min_width=160, label="Decode with")
            difference = gr.Checkbox(False, elem_id=f"{ELEM_ID}_difference", min_width=110, label="Difference")
        with gr.Row():
            save = small_button("Save", f"{ELEM_ID}_save")
            close = small_button("Close", f"{ELEM_ID}_close")
        box = DecodedBox(actions, ELEM_ID, save, result, difference)

    def decode(task: Task, wanted: Any, name: Any, last: Any, difference: Any) -> tuple[str, list[Any]]:
        kept, of_several = find_wanted(actions, str(wanted or "").rpartition("\n")[0])
        if kept is None:
            raise TaesdError(NOT_KEPT)
        names = decoder_names(actions.codecs, kept)
        step = f"Step {kept.step}/{kept.steps}" if kept.step else "Finished"
        others = f", image {kept.picture} of {of_several}" if of_several > 1 else ""
        words = f"{step}{others}: waiting for the running job"
        task.report(0.05, words, [gr.update(), *box.meanwhile(kept, last)])
        chosen = name if name in names else next(iter(names), None)
        words, outputs = box.decode(task, kept, chosen, last, difference)
        return words, [offer(names, name), *outputs]

    def asked(start: Any, *given: Any, **options: Any) -> None:
        for event in (wanted.change, decoder.input):
            event(start, *given, **options)

    inputs = [wanted, decoder, box.last, difference]
    long_action(asked, close, inputs, result, [decoder, *box.outputs], decode, ELEM_ID, alone=False)


def find_wanted(actions: PanelActions, wanted: str) -> tuple[KeptLatent | None, int]:
    """(the first image of a step, of how many), or the finished image that has these parameters."""
    if named := re.fullmatch(r"(\d{1,9})/(\d{1,9})", wanted):
        job, step = map(int, named.groups())
        found = [kept for kept in actions.moments(job) if kept.step == step]
    else:  # as the page shows them: lines and spaces are not as they were
        parameters = wanted.split()
        found = [kept for kept in actions.kept() if parameters and kept.infotext.split() == parameters][:1]
    return min(found, key=lambda kept: kept.picture, default=None), len(found)
