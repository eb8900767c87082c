"""The panel's "Re-decode": a finished latent through another decoder, without generating again."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.choices import offer, offer_newest
from taesd_ext.ui.decoding import Decoded, decode_again, decoder_names
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.markup import REFRESH_CLASS, notice, slider, stage
from taesd_ext.ui.pictures import offered_file, picture_bytes, picture_uri
from taesd_ext.ui.work import Task, long_action


def latent_choice(kept: KeptLatent) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(kept.kept_at))
    height, width = kept.latent.shape[-2:]
    factor = kept.latent_format.spatial_scale_factor if kept.latent_format else 8
    words = f"{clock} · {width * factor}x{height * factor} · by {kept.decoder or 'nothing'} · {kept.title[:50]}"
    return compat.choice(latent_key(kept), words.rstrip(" ·"))


def latent_key(kept: KeptLatent) -> str:
    """Its name: a job may have several images."""
    return f"job {kept.job}, image {kept.picture}"


def find_latent(actions: PanelActions, chosen: Any) -> KeptLatent | None:
    """The latent of a choice that a page sends; None where it is gone, or never was."""
    key = compat.key_of(chosen)
    return next((kept for kept in actions.kept() if latent_key(kept) == key), None)


def result_html(now: Decoded, before: Decoded | None) -> str:
    """The picture; beside that of another decoder of the same latent, with a slider."""
    size = now.picture.size
    same = before is not None and latent_key(before.kept) == latent_key(now.kept) and before.name != now.name
    if same and before.picture.size == size:
        return slider(picture_uri(before.picture), picture_uri(now.picture), (before.name, now.name), size)
    return stage(picture_uri(now.picture), size, now.name)


def build_redecode_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        latent = gr.Dropdown([], elem_id="taesd_kept", scale=2, min_width=260, **texts.KEPT.control())
        decoder = gr.Dropdown([], elem_id="taesd_again_decoder", min_width=200, **texts.AGAIN_DECODER.control())
        with gr.Column(scale=0, min_width=150):
            decode = gr.Button(texts.AGAIN.label, variant="primary", size="sm", elem_id="taesd_again")
            cancel = gr.Button(texts.CANCEL.label, size="sm", elem_id="taesd_again_cancel")
            save = gr.Button(texts.SAVE_PICTURE.label, size="sm", elem_id="taesd_again_save")
            refresh = gr.Button(
                texts.REFRESH.label, size="sm", elem_id="taesd_again_refresh", elem_classes=REFRESH_CLASS
            )
    result = gr.HTML(elem_id="taesd_again_result", elem_classes="taesd-ext-line")
    empty = texts.AGAIN_EMPTY if actions.allowed_to_change() else texts.NOT_SHOWN
    shown = gr.HTML(stage(None, (4, 3), "", empty=empty), elem_id="taesd_again_shown")
    saved = compat.file_box(texts.SAVED_FILE.label, interactive=False, visible=False, elem_id="taesd_again_file")
    decodes: KeptResults[Decoded] = KeptResults()
    last = gr.State(None)
    present, present_decoder, newest = gr.State(None), gr.State(None), gr.State("")

    def look(present: str | None, decoder: str | None, newest: str) -> list[Any]:
        update, value, now = offer_newest([latent_choice(kept) for kept in actions.kept()], present, newest)
        return [update, offer(decoder_names(actions, find_latent(actions, value)), decoder), now]

    def choose(chosen: str | None, decoder: str | None) -> list[Any]:
        return [offer(decoder_names(actions, find_latent(actions, chosen)), decoder), chosen]

    def again(task: Task, chosen: Any, name: str | None, last: int | None) -> tuple[str, list[Any]]:
        kept = find_latent(actions, chosen)
        if kept is None or not name:
            raise TaesdError(texts.NO_LATENT if kept is None else texts.NO_DECODER)
        task.report(0.1, f"{name}")
        before, now = decodes.get(last), decode_again(actions, kept, name, task)
        words = f"{now.name}: {1000 * now.seconds:.0f} ms"
        return words, [result_html(now, before), decodes.keep(now, now.size)]

    def keep(last: int | None) -> list[Any]:
        now = decodes.get(last)
        if now is None:
            return [notice(texts.DECODED_GONE if last else texts.NOTHING_TO_SAVE), gr.update(visible=False)]
        try:
            if actions.save_picture:
                actions.require_change()
                path = actions.save_picture(now.picture, now.kept, now.codec)
                return [notice(f"Saved as {path}.", "good"), gr.update(visible=False)]
            file = offered_file(f"{now.name}_{now.kept.job}_{now.kept.picture}.png", picture_bytes(now.picture))
            return [notice(texts.SAVED, "good"), gr.update(value=file, visible=True)]
        except Exception as error:
            return [notice(one_line(error), "bad"), gr.update(visible=False)]

    for event in (tab.select, refresh.click):
        event(look, [present, present_decoder, newest], [latent, decoder, newest], show_progress="hidden")
    latent.change(choose, [latent, present_decoder], [decoder, present], show_progress="hidden")
    decoder.change(lambda name: name, decoder, present_decoder, show_progress="hidden")
    long_action(decode.click, cancel, [latent, decoder, last], result, [shown, last], again, "taesd_again")
    save.click(keep, last, [result, saved], show_progress="hidden")
