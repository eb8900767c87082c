"""The panel's comparison: one picture through several codecs, side by side, with what each costs and loses."""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from taesd_ext.codec.picture_file import image_to_picture, picture_to_image, picture_uri
from taesd_ext.commands.compare import usable_codecs
from taesd_ext.commands.compare_page import COLUMNS, comparison_page, difference_map
from taesd_ext.commands.round_trip import RoundTrip, measure
from taesd_ext.errors import TaesdError
from taesd_ext.ui import compat
from taesd_ext.ui.actions import Codecs
from taesd_ext.ui.controls import AT_ONCE, late_dropdown, line, picked, small_button
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.markup import notice, slider, table
from taesd_ext.ui.pictures import fitted, offered_file, sample_names, sample_picture
from taesd_ext.ui.work import Task, leave, long_action
from taesd_ext.weights.vae_table import at_work

ORIGINAL = "original"
GONE = "This comparison is no longer in memory. Compare again."
NO_CODECS = "Choose at least one codec. More can be downloaded in the Models tab."
SIDES = ("256", "512", "768", "1024")


Comparison = tuple[Tensor, list[RoundTrip]]
"""A (1,3,H,W) image in [0,1], and what came of it."""


def images_of(comparison: Comparison) -> dict[str, Tensor]:
    """The image and what came back of it, by the codecs' names."""
    image, rows = comparison
    return {ORIGINAL: image, **{row.codec: row.image for row in rows if row.image is not None}}


def table_html(made: list[RoundTrip]) -> str:
    blank = [""] * (len(COLUMNS) - 2)
    rows = [(row.codec, row.error, *blank) if row.error else [show(row) for *_, show in COLUMNS] for row in made]
    return table([title for title, *_ in COLUMNS], rows)


def pair_html(images: Mapping[str, Tensor], first: str, second: str, difference: bool) -> str:
    """The slider between two, or between the second and where they differ."""
    if not {first, second} <= images.keys():
        return ""
    left, right = (first, images[first]), (second, images[second])
    if difference:
        left, right = right, ("Difference", difference_map(images[first], images[second]))
    pictures = [image_to_picture(image) for _, image in (left, right)]
    return slider(*map(picture_uri, pictures), (left[0], right[0]), pictures[0].size)


def build_compare_tab(codecs: Codecs, tab: gr.Tab) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        with gr.Column(min_width=280):
            picture = gr.Image(
                type="pil", height=220, elem_id="taesd_compare_picture", label="Picture to encode and decode"
            )
        with gr.Column(min_width=280):
            wanted = gr.CheckboxGroup(
                [], elem_id="taesd_compare_codecs", label="Codecs",
                info="installed or embedded; a decoder without an encoder uses an earlier codec's latent",
            )  # fmt: skip
            side = gr.Dropdown(
                list(SIDES), value="512", elem_id="taesd_compare_side", label="Picture size",
                info="longer side in pixels",
            )  # fmt: skip
            with gr.Row():
                compare = small_button("Compare", "taesd_compare_run", variant="primary")
                cancel = small_button("Cancel", "taesd_compare_cancel")
    result = line("taesd_compare_result")
    with gr.Row(visible=False) as pair:
        first = late_dropdown("taesd_compare_first", min_width=140, label="Left")
        second = late_dropdown("taesd_compare_second", min_width=140, label="Right")
        difference = gr.Checkbox(False, elem_id="taesd_compare_difference", min_width=140, label="Difference")
        export = small_button("Export", "taesd_compare_export")
    shown, numbers = line("taesd_compare_shown"), line("taesd_compare_numbers")
    exported = compat.file_box(
        "Page and numbers", interactive=False, visible=False, file_count="multiple", elem_id="taesd_compare_files"
    )
    kept: KeptResults[Comparison] = KeptResults()
    made, seeded = gr.State(None), gr.State(False)

    def look(chosen: list[str] | None, seeded: bool) -> list[Any]:
        names = usable_codecs(codecs.folders())
        still = [name for name in chosen or [] if name in names]
        sample = gr.update() if seeded else sample_picture(sample_names()[0])
        return [gr.update(choices=names, value=still or names[:4]), sample, True, "" if names else notice(NO_CODECS)]

    def run(task: Task, source: Image.Image | None, chosen: Any, side: str) -> tuple[str, list[Any]]:
        offered = usable_codecs(codecs.folders())
        names = [picked(name, offered, "codec") for name in chosen or []]
        if source is None:
            raise TaesdError("Drop a picture first")
        if not names:
            raise TaesdError(NO_CODECS)
        image = picture_to_image(fitted(source, int(picked(side, SIDES, "size"))))
        rows = []
        for index, name in enumerate(names):
            task.report(index / len(names), at_work(name))
            with codecs.in_turn(task):
                rows.append(_measured(codecs, name, image, rows))
        images = images_of((image, rows))
        names, best = {"choices": list(images)}, list(images)[-1]
        return "", [
            gr.update(visible=True), gr.update(**names, value=ORIGINAL), gr.update(**names, value=best),
            pair_html(images, ORIGINAL, best, False), table_html(rows),
            kept.keep((image, rows), sum(image.nbytes for image in images.values())),
        ]  # fmt: skip

    def forget(task: str) -> list[Any]:
        """The picture above is another one now."""
        leave(task)
        return [gr.update(visible=False), "", "", None]

    def show(key: int | None, first: str, second: str, difference: bool) -> str:
        if key is None:
            return ""
        done = kept.get(key)
        return pair_html(images_of(done), first, second, difference) if done else notice(GONE, "warning")

    def save(key: int | None) -> list[Any]:
        done = kept.get(key)
        if done is None:
            return [notice(GONE, "warning"), gr.update(visible=False)]
        image, rows = done
        page = comparison_page([(ORIGINAL, image, rows)]).encode()
        data = json.dumps([row.numbers() for row in rows], indent=2).encode()
        files = [offered_file("compare.html", page), offered_file("compare.json", data)]
        return ["", gr.update(value=files, visible=True)]

    tab.select(look, [wanted, seeded], [wanted, picture, seeded, result], **AT_ONCE)
    outputs = [pair, first, second, shown, numbers, made]
    task = long_action(compare.click, cancel, [picture, wanted, side], result, outputs, run, "taesd_compare")
    # By the user only: answers to changes of our own could arrive in another order, the last one with no picture.
    for event in compat.changes_by_user(picture):
        event(forget, task, [pair, shown, numbers, made], **AT_ONCE)
    for control in (first, second, difference):
        control.input(show, [made, first, second, difference], shown, **AT_ONCE)
    export.click(save, made, [result, exported], **AT_ONCE)


def _measured(codecs: Codecs, name: str, image: Tensor, before: list[RoundTrip]) -> RoundTrip:
    try:
        return measure(codecs.load(name), image, before)
    except TaesdError as error:
        return RoundTrip(name, "", error=str(error))
