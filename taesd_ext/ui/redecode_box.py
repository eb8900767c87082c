"""The choice of a kept latent and of a decoder, and the picture that they make."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.ui import compat
from taesd_ext.ui.actions import NOT_SHOWN, PanelActions
from taesd_ext.ui.controls import AT_ONCE, late_dropdown, line, offer, offer_newest, refresh_button, small_button
from taesd_ext.ui.decoded_box import DecodedBox
from taesd_ext.ui.decoding import decoder_names
from taesd_ext.ui.markup import stage
from taesd_ext.ui.work import Task, long_action

AGAIN_EMPTY = "Decode a finished image with another decoder, without generating it again"


def latent_choice(kept: KeptLatent) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(kept.kept_at))
    height, width = kept.latent.shape[-2:]
    factor = kept.latent_format.spatial_scale_factor if kept.latent_format else 8
    size = f"{width * factor}x{height * factor}"
    if kept.step:
        return compat.choice(latent_key(kept), f"{kept.steps} steps · {size}")
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


def build_redecode_box(
    actions: PanelActions, tab: gr.Tab, elem_id: str, words: dict[str, str],
    offered: Callable[[Any], Sequence[KeptLatent]], source: Any = None, *, button: str,
) -> gr.Dropdown:  # fmt: skip
    """Controls for the latents ``offered`` for the choice of ``source``, a dropdown; gives the dropdown of latents."""
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
        difference = gr.Checkbox(False, elem_id=f"{elem_id}_difference", min_width=110, label="Difference")
        refresh = refresh_button(f"{elem_id}_refresh")
    result = line(f"{elem_id}_result")
    empty = AGAIN_EMPTY if actions.allowed_to_change() else NOT_SHOWN
    empty = "" if source else stage(None, (4, 3), "", empty=empty)
    box = DecodedBox(actions, elem_id, save, result, difference, empty)
    newest = gr.State("")
    beside = source or gr.State(None)

    def look(source: Any, chosen: str | None, decoder: str | None, newest: str) -> list[Any]:
        update, newest = offer_newest([latent_choice(kept) for kept in offered(source)], chosen, newest)
        # Another latent's decoders follow by its dropdown's own change; twice, they would undo a choice made meanwhile.
        same = update.get("value", chosen) == chosen
        return [update, choose(source, chosen, decoder) if same else gr.update(), newest]

    def choose(source: Any, chosen: str | None, decoder: str | None) -> dict[str, Any]:
        return offer(decoder_names(codecs, find_latent(offered(source), chosen)), decoder)

    def again(
        task: Task, source: Any, chosen: Any, name: str | None, last: Any, difference: Any
    ) -> tuple[str, list[Any]]:
        return box.decode(task, find_latent(offered(source), chosen), name, last, difference)

    for event in (tab.select, refresh.click, *([source.change] if source else [])):
        event(look, [beside, latent, decoder, newest], [latent, decoder, newest], **AT_ONCE)
    latent.change(choose, [beside, latent, decoder], decoder, **AT_ONCE)
    inputs = [beside, latent, decoder, box.last, difference]
    long_action(decode.click, cancel, inputs, result, box.outputs, again, elem_id)
    return latent
