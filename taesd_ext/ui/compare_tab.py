"""The panel's comparison: one picture through several codecs, side by side, with what each costs and loses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from taesd_ext.codec.picture_file import image_to_picture, picture_to_image
from taesd_ext.commands.compare import measure
from taesd_ext.commands.compare_page import comparison_page, difference_map
from taesd_ext.commands.result_row import ResultRow
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.markup import notice, progress_bar, slider, table
from taesd_ext.ui.pictures import offered_file, picture_uri
from taesd_ext.ui.play import fitted
from taesd_ext.ui.plots import scatter
from taesd_ext.ui.samples import sample_names, sample_picture
from taesd_ext.weights.folders import installed
from taesd_ext.weights.full_files import installed_vaes

SIDES = ("256", "512", "768", "1024")


@dataclass(frozen=True)
class Comparison:
    """A picture and what came of it."""

    image: Tensor
    rows: tuple[ResultRow, ...]

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
    """Codecs with both halves there: tiny ones, then full-size ones."""
    folders = actions.folders()
    tiny = [family for family in FAMILIES if len(installed(folders).get(family, {})) == 2]
    full = [name for row in LATENT_FORMATS for name in installed_vaes(row, folders)]
    return list(dict.fromkeys([*tiny, *full]))


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


def plot_html(comparison: Comparison) -> str:
    points = [(row.codec, 1000 * row.decode_seconds, row.psnr) for row in comparison.rows if not row.error]
    return scatter(points, texts.PLOT_TIME, texts.PLOT_PSNR)


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
            compare = gr.Button(texts.COMPARE_RUN.label, variant="primary", elem_id="taesd_compare_run")
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
    made = gr.State(None)

    def look(chosen: list[str] | None) -> Any:
        names = codec_names(actions)
        kept = [name for name in chosen or [] if name in names]
        return gr.update(choices=names, value=kept or names[:4])

    def run(source: Image.Image | None, names: list[str], side: str):
        same = [gr.update()] * 6
        if not names:
            yield [notice(texts.NO_CODECS), *same]
            return
        source = source if source is not None else sample_picture(sample_names()[0])
        try:
            image = picture_to_image(fitted(source, int(side)))
            rows = []
            for index, name in enumerate(names):
                yield [progress_bar(index / len(names), name), *same]
                with actions.exclusive():
                    rows.append(_measured(actions, name, image))
        except Exception as error:
            yield [notice(one_line(error), "bad"), *same]
            return
        done = Comparison(image, tuple(rows))
        best = done.names[-1]
        choices = {"choices": done.names}
        yield [
            "", gr.update(visible=True), gr.update(**choices, value=done.names[0]), gr.update(**choices, value=best),
            pair_html(done, done.names[0], best, False), table_html(done) + plot_html(done), kept.keep(done, done.size),
        ]  # fmt: skip

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

    tab.select(look, codecs, codecs, show_progress="hidden")
    outputs = [result, pair, first, second, shown, numbers, made]
    compare.click(run, [picture, codecs, side], outputs, show_progress="hidden")
    for control in (first, second, difference):
        control.change(show, [made, first, second, difference], shown, show_progress="hidden")
    export.click(save, made, [result, exported])


def _measured(actions: PanelActions, name: str, image: Tensor) -> ResultRow:
    try:
        return measure(actions.codec_for(name), image)
    except TaesdError as error:
        return ResultRow(name, "", error=str(error))
