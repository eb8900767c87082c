"""The panel's way from a picture to a latent in a PNG and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from taesd_ext.codec.latent_file import latent_bytes, read_latent
from taesd_ext.codec.latent_image import latent_view, note_for
from taesd_ext.codec.picture_file import image_to_picture, picture_to_image
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.markup import notice
from taesd_ext.ui.pictures import offered_file, picture_uri

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

    def to_latent(source: Image.Image | None, family: str, kind: str) -> list[Any]:
        if source is None:
            return [gr.update(visible=False), notice(texts.NO_PICTURE), ""]
        try:
            image = picture_to_image(source)
            with actions.exclusive():
                codec = actions.codec_for(family)
                latent = codec.encode(image)
            note = note_for(latent, codec.family, codec.format, tuple(image.shape[-2:]))
            suffix = KINDS[kind]
            data = latent_bytes(suffix, latent, note)
        except Exception as error:
            return [gr.update(visible=False), notice(one_line(error), "bad"), ""]
        words = f"{family}: {latent.shape[1]} channels of {latent.shape[3]}x{latent.shape[2]}, {len(data):,} bytes."
        file = gr.update(value=offered_file(f"latent_{family}{suffix}", data), visible=True)
        return [file, notice(words, "good"), _channels_html(latent, codec)]

    def to_picture(value: Any, chosen: str) -> list[Any]:
        path = compat.file_path(value)
        if path is None:
            return [None, notice(texts.NO_LATENT_FILE), ""]
        try:
            asked = None if chosen == texts.OF_THE_FILE else chosen
            latent, note = read_latent(Path(path), asked or FAMILIES[0])
            with actions.exclusive():
                codec = actions.codec_for(asked or _installed_family(note.family))
                image = codec.decode(latent, size=note.size)
        except Exception as error:
            return [None, notice(_without_folder(one_line(error), path), "bad"), ""]
        words = f"Decoded by {codec.family}: {note.width}x{note.height}."
        return [image_to_picture(image), notice(words, "good"), _channels_html(latent, codec)]

    encode.click(to_latent, [picture, family, kind], [latent_file, result, channels])
    decode.click(to_picture, [stored, decoder], [decoded, result, channels])


def _installed_family(name: str) -> str:
    if name in FAMILIES:
        return name
    raise TaesdError(f"The latent was made by {name[:40]!r}", "no family of that name is known", "Choose a decoder")


def _without_folder(line: str, path: str) -> str:
    """The upload's temporary folder says nothing to a person."""
    return line.replace(path, Path(path).name)


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
