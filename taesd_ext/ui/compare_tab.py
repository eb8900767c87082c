"""The panel's comparison: one picture through several codecs, side by side, with what each costs and loses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from taesd_ext.codec.embedded import embedded_names
from taesd_ext.codec.picture_file import image_to_picture, picture_to_image
from taesd_ext.commands.compare_page import comparison_page, difference_map
from taesd_ext.commands.round_trip import RoundTrip, measure
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.markup import SMALL, notice, slider, table
from taesd_ext.ui.pictures import fitted, offered_file, picture_uri, sample_names, sample_picture
from taesd_ext.ui.work import Task, interruptible, leave, long_action
from taesd_ext.weights.installed import installed
from taesd_ext.weights.installed_vaes import installed_vaes

SIDES = ("256", "512", "768", "1024")


@dataclass(frozen=True)
class Comparison:
    """A picture and what came of it."""

    image: Tensor
    rows: tuple[RoundTrip, ...]

    def picture(self, name: str) -> Image.Image | None:
        if name == texts.ORIGINAL:
            return image_to_picture(self.image)
        images = (row.image for row in self.rows if row.codec == name and row.image is not None)
        return next(map(image_to_picture, images), None)

    @property
    def size(self) -> int:
        """Bytes of its pictures and latents."""
        tensors = [self.image, *(tensor for row in self.rows for tensor in (row.image, row.latent))]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)

    @property
    def names(self) -> list[str]:
        return [texts.ORIGINAL, *(row.codec for row in self.rows if row.image is not None)]


def codec_names(actions: PanelActions) -> list[str]:
    """Codecs with both halves there: tiny ones, full-size ones, embedded ones."""
    folders = actions.folders()
    tiny = [family for family in FAMILIES if len(installed(folders).get(family, {})) == 2]
    full = [name for row in LATENT_FORMATS for name in installed_vaes(row, folders)]
    return list(dict.fromkeys([*tiny, *full, *embedded_names()]))


def table_html(comparison: Comparison) -> str:
    rows = []
    for row in comparison.rows:
        if row.error:
            rows.append((row.codec, row.error, "", "", "", "", "", ""))
            continue
        memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f} MB"
        cells = (
            row.codec, f"{row.psnr:.1f} dB", f"{row.ssim:.3f}", f"{1000 * row.encode_seconds:.0f} ms",
            f"{1000 * row.decode_seconds:.0f} ms", memory, f"{row.latent_png_bytes / 1e3:.0f} kB",
            f"{row.psnr_8bit:.1f} dB",
        )  # fmt: skip
        rows.append(tuple(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in cells))
    return table(texts.COMPARE_HEAD, rows)


def pair_html(comparison: Comparison | None, first: str, second: str, difference: bool) -> str:
    """The slider between two, or where they differ."""
    if comparison is None:
        return ""
    one, two = comparison.picture(first), comparison.picture(second)
    if one is None or two is None:
        return ""
    if difference:
        seen = image_to_picture(difference_map(picture_to_image(one), picture_to_image(two)))
        uri = picture_uri(seen)
        return slider(picture_uri(two, "jpeg"), uri, (second, texts.DIFFERENCE.label), two.size)
    return slider(picture_uri(one), picture_uri(two), (first, second), two.size)


def build_compare_tab(actions: PanelActions, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        with gr.Column(min_width=280):
            picture = gr.Image(
                type="pil", height=220, elem_id="taesd_compare_picture", **texts.COMPARE_PICTURE.control()
            )
        with gr.Column(min_width=280):
            codecs = gr.CheckboxGroup([], elem_id="taesd_compare_codecs", **texts.COMPARE_CODECS.control())
            side = gr.Dropdown(list(SIDES), value="512", elem_id="taesd_compare_side", **texts.SIZE.control())
            with gr.Row():
                compare = gr.Button(texts.COMPARE_RUN.label, variant="primary", **SMALL, elem_id="taesd_compare_run")
                cancel = gr.Button(texts.CANCEL.label, **SMALL, elem_id="taesd_compare_cancel")
    result = gr.HTML(elem_id="taesd_compare_result", elem_classes="taesd-ext-line")
    with gr.Row(visible=False) as pair:
        first = gr.Dropdown([], elem_id="taesd_compare_first", min_width=140, **texts.LEFT.control())
        second = gr.Dropdown([], elem_id="taesd_compare_second", min_width=140, **texts.RIGHT.control())
        difference = gr.Checkbox(False, elem_id="taesd_compare_difference", min_width=140, **texts.DIFFERENCE.control())
        export = gr.Button(texts.EXPORT.label, size="sm", min_width=100, elem_id="taesd_compare_export")
    shown = gr.HTML(elem_id="taesd_compare_shown", elem_classes="taesd-ext-line")
    numbers = gr.HTML(elem_id="taesd_compare_numbers", elem_classes="taesd-ext-line")
    exported = compat.file_box(
        texts.EXPORTED.label, interactive=False, visible=False, file_count="multiple", elem_id="taesd_compare_files"
    )
    kept: KeptResults[Comparison] = KeptResults()
    made, seeded = gr.State(None), gr.State(False)

    def look(chosen: list[str] | None, seeded: bool) -> list[Any]:
        names = codec_names(actions)
        still = [name for name in chosen or [] if name in names]
        sample = gr.update() if seeded else sample_picture(sample_names()[0])
        missing = "" if names else notice(texts.NO_CODECS)
        return [gr.update(choices=names, value=still or names[:4]), sample, True, missing]

    def run(task: Task, source: Image.Image | None, chosen: Any, side: str) -> tuple[str, list[Any]]:
        offered = codec_names(actions)
        names = [picked(name, offered, "codec") for name in chosen or []]
        if source is None or not names:
            raise TaesdError(texts.NO_CODECS if source is not None else texts.NO_PICTURE)
        image = picture_to_image(fitted(source, int(picked(side, SIDES, "size"))))
        rows = []
        for index, name in enumerate(names):
            task.report(index / len(names), name)
            with actions.exclusive(), interruptible(task):
                rows.append(_measured(actions, name, image))
        done = Comparison(image, tuple(rows))
        best, choices = done.names[-1], {"choices": done.names}
        return "", [
            gr.update(visible=True), gr.update(**choices, value=done.names[0]), gr.update(**choices, value=best),
            pair_html(done, done.names[0], best, False), table_html(done), kept.keep(done, done.size),
        ]  # fmt: skip

    def forget(task: str) -> list[Any]:
        """The picture above is another one now."""
        leave(task)
        return [gr.update(visible=False), "", "", None]

    def show(key: int | None, first: str, second: str, difference: bool) -> str:
        done = kept.get(key)
        return notice(texts.COMPARISON_GONE) if key and done is None else pair_html(done, first, second, difference)

    def save(key: int | None) -> list[Any]:
        done = kept.get(key)
        if done is None:
            return [notice(texts.COMPARISON_GONE), gr.update(visible=False)]
        page = comparison_page([(texts.ORIGINAL, done.image, list(done.rows))]).encode()
        data = json.dumps([row.numbers() for row in done.rows], indent=2).encode()
        files = [offered_file("compare.html", page), offered_file("compare.json", data)]
        return ["", gr.update(value=files, visible=True)]

    tab.select(look, [codecs, seeded], [codecs, picture, seeded, result], show_progress="hidden")
    outputs = [pair, first, second, shown, numbers, made]
    task = long_action(compare.click, cancel, [picture, codecs, side], result, outputs, run, "taesd_compare")
    # By the user only: answers to changes of our own could arrive in another order, the last one with no picture.
    for event in compat.changes_by_user(picture):
        event(forget, task, [pair, shown, numbers, made], show_progress="hidden")
    for control in (first, second, difference):
        control.input(show, [made, first, second, difference], shown, show_progress="hidden")
    export.click(save, made, [result, exported])


def _measured(actions: PanelActions, name: str, image: Tensor) -> RoundTrip:
    try:
        return measure(actions.codec_for(name), image)
    except TaesdError as error:
        return RoundTrip(name, "", error=str(error))
