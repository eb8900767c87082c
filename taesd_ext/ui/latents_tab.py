"""The panel's way from a picture to a latent in a PNG and back."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.latent_file import latent_bytes, read_latent
from taesd_ext.codec.latent_image import latent_view
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import image_to_picture, picture_to_image, picture_uri
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import compat
from taesd_ext.ui.actions import Codecs
from taesd_ext.ui.controls import heading, line, picked
from taesd_ext.ui.pictures import offered_file
from taesd_ext.ui.work import Task, long_action

CHANNELS = "The latent in rough colours, then its channels one by one"
OF_THE_FILE = "as the file says"
KINDS = {"PNG, 8 bits": ".png", "safetensors, exact": ".safetensors"}


def build_latents_tab(codecs: Codecs) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        with gr.Column(min_width=300):
            heading("Picture to latent")
            picture = gr.Image(type="pil", height=260, elem_id="taesd_latent_source", label="Picture")
            with gr.Row():
                family = gr.Dropdown(
                    list(FAMILIES), value=FAMILIES[0], min_width=130, elem_id="taesd_latent_family",
                    label="Family", info="the model family whose latent it becomes",
                )  # fmt: skip
                kind = gr.Dropdown(
                    list(KINDS), value=next(iter(KINDS)), min_width=130, elem_id="taesd_latent_kind",
                    label="File", info="a PNG is small and can be shared like any image",
                )  # fmt: skip
            encode = gr.Button("Encode", variant="primary", elem_id="taesd_encode")
            latent_file = compat.file_box("Latent", interactive=False, visible=False, elem_id="taesd_latent_file")
        with gr.Column(min_width=300):
            heading("Latent to picture")
            stored = compat.file_box("Drop a latent: PNG or safetensors", elem_id="taesd_latent_stored", height=260)
            decoder = gr.Dropdown(
                [OF_THE_FILE, *FAMILIES], value=OF_THE_FILE, elem_id="taesd_latent_decoder", label="Decoder"
            )  # fmt: skip
            decode = gr.Button("Decode", variant="primary", elem_id="taesd_decode")
            decoded = gr.Image(
                type="pil", interactive=False, height=260, elem_id="taesd_latent_decoded", label="Picture"
            )
    encoded, result, channels = map(line, ("taesd_encode_result", "taesd_latent_result", "taesd_latent_channels"))

    def to_latent(task: Task, source: Image.Image | None, family: str, kind: str) -> tuple[str, list[Any]]:
        if source is None:
            raise TaesdError("Drop a picture first")
        family, suffix = picked(family, FAMILIES, "family"), KINDS[picked(kind, KINDS, "kind of file")]
        image = picture_to_image(source)
        task.report(0.1, family)
        with codecs.in_turn(task):
            codec = codecs.load(family)
            latent = codec.encode(image)
        data = latent_bytes(suffix, latent, note_for(latent, codec.family, codec.format, tuple(image.shape[-2:])))
        words = f"{family}: {latent.shape[1]} channels of {latent.shape[3]}x{latent.shape[2]}, {len(data):,} bytes."
        file = gr.update(value=offered_file(f"latent_{family}{suffix}", data), visible=True)
        return words, [file, _channels_html(latent, codec)]

    def to_picture(task: Task, value: Any, chosen: str) -> tuple[str, list[Any]]:
        path = compat.file_path(value)
        if path is None:
            raise TaesdError("Drop a latent first")
        chosen = picked(chosen, [OF_THE_FILE, *FAMILIES], "decoder")
        asked = None if chosen == OF_THE_FILE else chosen
        try:
            latent, note = read_latent(Path(path), asked or FAMILIES[0])
        except TaesdError as error:
            # The upload's temporary folder says nothing to a person.
            raise TaesdError(*(part.replace(path, Path(path).name) for part in error.args)) from error
        task.report(0.1, chosen)
        with codecs.in_turn(task):
            codec = codecs.load(asked or picked(note.family, FAMILIES, "family"))
            image = codec.decode(latent, size=note.size)
        words = f"Decoded by {codec.family}: {note.width}x{note.height}."
        return words, [image_to_picture(image), _channels_html(latent, codec)]

    inputs = [picture, family, kind]
    long_action(encode.click, None, inputs, encoded, [latent_file, channels], to_latent, "taesd_encode")
    long_action(decode.click, None, [stored, decoder], result, [decoded, channels], to_picture, "taesd_decode")


def _channels_html(latent: Tensor, codec: Codec) -> str:
    view = latent_view(latent, codec.format)
    scale = max(1, 720 // view.width)
    uri = picture_uri(view.resize((view.width * scale, view.height * scale), Image.Resampling.NEAREST))
    return f'<figure class="taesd-ext-channels"><img src="{uri}" alt=""><figcaption>{CHANNELS}</figcaption></figure>'
