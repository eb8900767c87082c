"""A kept latent, a decoder, and the picture that it makes: in full, beside another, saved, and sent on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.preview.recorded import KeptLatent, RecordedFrame
from taesd_ext.ui import compat
from taesd_ext.ui.actions import NOT_SHOWN, PanelActions
from taesd_ext.ui.choices import offer, offer_newest
from taesd_ext.ui.controls import late_dropdown, line, refresh_button, small_button
from taesd_ext.ui.decoding import Decoded, decode_again, decoder_names
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.markup import notice, slider, stage
from taesd_ext.ui.pictures import data_uri, offered_file, picture_bytes, picture_uri
from taesd_ext.ui.work import Task, long_action

AGAIN_EMPTY = "Decode a finished image with another decoder, without generating it again"
NO_IMAGE = "There is no image yet. Generate one first."
NO_DECODER = "No decoder is installed for this image's model. Download one in the Models tab."
NOTHING_TO_SAVE = "Re-decode an image first."
GONE = "This image is no longer in memory. Re-decode it."


def latent_choice(kept: KeptLatent) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(kept.kept_at))
    height, width = kept.latent.shape[-2:]
    factor = kept.latent_format.spatial_scale_factor if kept.latent_format else 8
    size = f"{width * factor}x{height * factor}"
    if kept.step:
        return compat.choice(latent_key(kept), f"of {kept.steps} · {size}")
    words = f"{clock} · {size} · by {kept.decoder or 'nothing'} · {kept.title[:50]}"
    return compat.choice(latent_key(kept), words.rstrip(" ·"))


def latent_key(kept: KeptLatent) -> str:
    """Its name: a job may have several images, and each of these several steps."""
    step = f", step {kept.step}" if kept.step else ""
    return f"job {kept.job}, image {kept.picture}{step}"


def find_latent(offered: Sequence[KeptLatent], chosen: Any) -> KeptLatent | None:
    """The one of a choice that a page sends; None where it is gone, or never was."""
    key = compat.key_of(chosen)
    return next((kept for kept in offered if latent_key(kept) == key), None)


def decoded_words(decoded: Decoded) -> str:
    return f"{decoded.name}, step {decoded.kept.step}" if decoded.kept.step else decoded.name


def result_html(now: Decoded, before: Decoded | None, preview: RecordedFrame | None = None) -> str:
    """The picture; with a slider between it and another of the same job's, or the preview of its step."""
    size, words = now.picture.size, decoded_words(now)
    same = before is not None and (before.kept.job, before.kept.picture) == (now.kept.job, now.kept.picture)
    if same and decoded_words(before) != words and before.picture.size == size:
        return slider(picture_uri(before.picture), picture_uri(now.picture), (decoded_words(before), words), size)
    if preview:
        names = (f"preview {preview.detail}", words)
        return slider(data_uri(preview.data, preview.wire_format), picture_uri(now.picture), names, size)
    return stage(picture_uri(now.picture), size, words)


def preview_of(actions: PanelActions, kept: KeptLatent) -> RecordedFrame | None:
    """The preview that was shown of a latent; those of several pictures are grids."""
    job = next((job for job in actions.jobs() if job.id == kept.job), None)
    moment = job and job.moments.get(kept.step or 0)
    return moment.frame if moment and moment.latents is not None and len(moment.latents) == 1 else None


def build_redecode_box(
    actions: PanelActions, tab: gr.Tab, elem_id: str, words: dict[str, str],
    offered: Callable[[Any], Sequence[KeptLatent]], source: Any = None, *, button: str,
) -> gr.Dropdown:  # fmt: skip
    """Controls for the latents that are ``offered`` for what ``source``, a dropdown beside them, shows.

    ``words`` are those of the choice of one, which it gives; ``button`` is that of the button that decodes it.
    """
    codecs = actions.codecs
    with gr.Row():
        latent = late_dropdown(f"{elem_id}_kept", scale=2, min_width=260, **words)
        decoder = late_dropdown(
            f"{elem_id}_decoder", min_width=200, label="Decode with",
            info="two decodes of the same image are shown with a slider",
        )  # fmt: skip
    with gr.Row():
        decode = small_button(button, elem_id, variant="primary")
        cancel = small_button("Cancel", f"{elem_id}_cancel")
        save = small_button("Save", f"{elem_id}_save")
        refresh = refresh_button(f"{elem_id}_refresh")
    result = line(f"{elem_id}_result")
    empty = AGAIN_EMPTY if actions.allowed_to_change() else NOT_SHOWN
    shown = gr.HTML("" if source else stage(None, (4, 3), "", empty=empty), elem_id=f"{elem_id}_shown")
    saved = compat.file_box("Picture", interactive=False, visible=False, elem_id=f"{elem_id}_file")
    decodes: KeptResults[Decoded] = KeptResults()
    last, newest = gr.State(None), gr.State("")
    sent = _send_buttons(actions, elem_id)
    beside = source or gr.State(None)

    def look(source: Any, chosen: str | None, decoder: str | None, newest: str) -> list[Any]:
        update, newest = offer_newest([latent_choice(kept) for kept in offered(source)], chosen, newest)
        # Another latent's decoders follow by its dropdown's own change; twice, they would undo a choice made meanwhile.
        same = update.get("value", chosen) == chosen
        return [update, choose(source, chosen, decoder) if same else gr.update(), newest]

    def choose(source: Any, chosen: str | None, decoder: str | None) -> dict[str, Any]:
        return offer(decoder_names(codecs, find_latent(offered(source), chosen)), decoder)

    def again(task: Task, source: Any, chosen: Any, name: str | None, last: int | None) -> tuple[str, list[Any]]:
        kept = find_latent(offered(source), chosen)
        if kept is None or not name:
            raise TaesdError(NO_IMAGE if kept is None else NO_DECODER)
        task.report(0.1, name)
        before, now = decodes.get(last), decode_again(codecs, kept, name, task)
        words = f"{now.name}: {1000 * now.seconds:.0f} ms"
        outputs = [result_html(now, before, preview_of(actions, kept)), decodes.keep(now, now.size)]
        if sent:
            outputs += [now.picture, actions.parameters(kept, now.codec)]
        return words, outputs

    def keep(last: int | None) -> list[Any]:
        now = decodes.get(last)
        if now is None:
            return [notice(GONE if last else NOTHING_TO_SAVE, "warning"), gr.update(visible=False)]
        try:
            if actions.save_picture:
                actions.require_change()
                path = actions.save_picture(now.picture, now.kept, now.codec)
                return [notice(f"Saved as {path}.", "good"), gr.update(visible=False)]
            file = offered_file(f"{now.name}_{now.kept.job}_{now.kept.picture}.png", picture_bytes(now.picture))
            return [notice("The image can be downloaded below.", "good"), gr.update(value=file, visible=True)]
        except Exception as error:
            return [notice(one_line(error), "bad"), gr.update(visible=False)]

    for event in (tab.select, refresh.click, *([source.change] if source else [])):
        event(look, [beside, latent, decoder, newest], [latent, decoder, newest], show_progress="hidden")
    latent.change(choose, [beside, latent, decoder], decoder, show_progress="hidden")
    long_action(decode.click, cancel, [beside, latent, decoder, last], result, [shown, last, *sent], again, elem_id)
    save.click(keep, last, [result, saved], show_progress="hidden")
    return latent


def _send_buttons(actions: PanelActions, elem_id: str) -> list[Any]:
    """The host's ways on for a picture: (what they send, its parameters); none outside a host."""
    if actions.bind_send is None:
        return []
    picture = gr.Image(type="pil", interactive=False, visible=False, elem_id=f"{elem_id}_sent")
    parameters = gr.Textbox(visible=False)
    with gr.Row():
        for name in ("img2img", "inpaint", "extras"):
            actions.bind_send(small_button(f"Send to {name}", f"{elem_id}_to_{name}"), name, picture, parameters)
    return [picture, parameters]
