"""The panel's way from a picture to a latent in a PNG and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from taesd_ext.codec.latent_file import latent_bytes, read_latent
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.latent_view import latent_view
from taesd_ext.codec.picture_file import image_to_picture, picture_to_image
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.pictures import offered_file, picture_uri
from taesd_ext.ui.work import Task, interruptible, long_action

KINDS = {"PNG, 8 bits": ".png", "safetensors, exact": ".safetensors"}


def build_latents_tab(actions: PanelActions) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        with gr.Column(min_width=300):
            gr.HTML(f"<h3>{texts.TO_LATENT.label}</h3>")
            picture = gr.Image(type="pil", height=260, elem_id="taesd_latent_source", **texts.LATENT_SOURCE.control())
            with gr.Row():
                family = gr.Dropdown(
                    list(FAMILIES), value=FAMILIES[0], min_width=130, elem_id="taesd_latent_family",
                    **texts.LATENT_FAMILY.control(),
                )  # fmt: skip
                kind = gr.Dropdown(
                    list(KINDS), value=next(iter(KINDS)), min_width=130, elem_id="taesd_latent_kind",
                    **texts.LATENT_KIND.control(),
                )  # fmt: skip
            encode = gr.Button(texts.ENCODE.label, variant="primary", elem_id="taesd_encode")
            latent_file = compat.file_box(
                texts.LATENT_FILE.label, interactive=False, visible=False, elem_id="taesd_latent_file"
            )
        with gr.Column(min_width=300):
            gr.HTML(f"<h3>{texts.TO_PICTURE.label}</h3>")
            stored = compat.file_box(texts.LATENT_DROP.label, elem_id="taesd_latent_stored", height=260)
            decoder = gr.Dropdown(
                [texts.OF_THE_FILE, *FAMILIES], value=texts.OF_THE_FILE, elem_id="taesd_latent_decoder",
                **texts.LATENT_DECODER.control(),
            )  # fmt: skip
            decode = gr.Button(texts.DECODE.label, variant="primary", elem_id="taesd_decode")
            decoded = gr.Image(
                type="pil", interactive=False, height=260, elem_id="taesd_latent_decoded", **texts.DECODED.control()
            )
    result = gr.HTML(elem_id="taesd_latent_result", elem_classes="taesd-ext-line")
    channels = gr.HTML(elem_id="taesd_latent_channels", elem_classes="taesd-ext-line")

    def to_latent(task: Task, source: Image.Image | None, family: str, kind: str) -> tuple[str, list[Any]]:
        if source is None:
            raise TaesdError(texts.NO_PICTURE)
        family, suffix = picked(family, FAMILIES, "family"), KINDS[picked(kind, KINDS, "kind of file")]
        image = picture_to_image(source)
        task.report(0.1, family)
        with actions.exclusive(), interruptible(task):
            codec = actions.codec_for(family)
            latent = codec.encode(image)
        data = latent_bytes(suffix, latent, note_for(latent, codec.family, codec.format, tuple(image.shape[-2:])))
        words = f"{family}: {latent.shape[1]} channels of {latent.shape[3]}x{latent.shape[2]}, {len(data):,} bytes."
        file = gr.update(value=offered_file(f"latent_{family}{suffix}", data), visible=True)
        return words, [file, _channels_html(latent, codec)]

    def to_picture(task: Task, value: Any, chosen: str) -> tuple[str, list[Any]]:
        path = compat.file_path(value)
        if path is None:
            raise TaesdError(texts.NO_LATENT_FILE)
        chosen = picked(chosen, [texts.OF_THE_FILE, *FAMILIES], "decoder")
        asked = None if chosen == texts.OF_THE_FILE else chosen
        try:
            latent, note = read_latent(Path(path), asked or FAMILIES[0])
        except TaesdError as error:
            raise _without_folder(error, path) from error
        task.report(0.1, chosen)
        with actions.exclusive(), interruptible(task):
            codec = actions.codec_for(asked or _installed_family(note.family))
            image = codec.decode(latent, size=note.size)
        words = f"Decoded by {codec.family}: {note.width}x{note.height}."
        return words, [image_to_picture(image), _channels_html(latent, codec)]

    inputs = [picture, family, kind]
    long_action(encode.click, None, inputs, result, [latent_file, channels], to_latent, "taesd_encode")
    long_action(decode.click, None, [stored, decoder], result, [decoded, channels], to_picture, "taesd_decode")


def _installed_family(name: str) -> str:
    if name in FAMILIES:
        return name
    raise TaesdError(f"The latent was made by {name[:40]!r}", "no family of that name is known", "Choose a decoder")


def _without_folder(error: TaesdError, path: str) -> TaesdError:
    """The upload's temporary folder says nothing to a person."""
    return TaesdError(*(part.replace(path, Path(path).name) for part in (error.what, error.why, error.cure)))


def _channels_html(latent: Any, codec: Any) -> str:
    try:
        view = latent_view(latent, codec.format)
    except KeyError:  # a format without a linear preview
        return ""
    scale = max(1, 720 // view.width)
    view = view.resize((view.width * scale, view.height * scale), Image.Resampling.NEAREST)
    return f'<figure class="taesd-ext-channels"><img src="{picture_uri(view)}" alt=""><figcaption>' + (
        f"{texts.CHANNELS}</figcaption></figure>"
    )
