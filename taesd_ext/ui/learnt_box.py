"""The Models tab's part for previews learnt from finished images: how good each is, and forget."""

from __future__ import annotations

from typing import Any

import gradio as gr

from taesd_ext.errors import TaesdError
from taesd_ext.learning.pairs import LatentKind
from taesd_ext.ui import texts
from taesd_ext.ui.actions import LearntPreviewers, PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.markup import REFRESH_CLASS, SMALL, notice, table


def build_learnt_box(actions: PanelActions, previewers: LearntPreviewers, tab: gr.Tab, page: gr.Blocks) -> None:
    """Add the controls to the tab that is being built."""

    def by_title() -> dict[str, LatentKind]:
        return {kind.title: kind for kind in previewers.learnt()}

    def look() -> list[Any]:
        rows = [
            (kind.title, f"{learnt.psnr:.1f} dB", f"{learnt.pictures}") for kind, learnt in previewers.learnt().items()
        ]
        shown = table(texts.LEARNT_HEAD, rows) if rows else notice(texts.LEARNT_NONE)
        return [shown, gr.update(choices=[title for title, *_ in rows], value=None)]

    def forget(chosen: Any) -> list[Any]:
        try:
            actions.require_change()
            known = by_title()
            previewers.forget(known[picked(chosen, known, "preview")])
        except TaesdError as error:
            return [notice(str(error), "bad"), *look()]
        return ["", *look()]

    with gr.Accordion(texts.LEARNT.label, open=False, elem_id="taesd_learnt"):
        found = gr.HTML(elem_id="taesd_learnt_table")
        with gr.Row():
            kind = gr.Dropdown([], elem_id="taesd_learnt_kind", **texts.LEARNT_KIND.control())
            remove = gr.Button(
                texts.FORGET.label, interactive=actions.allowed_to_change(), elem_id="taesd_learnt_forget", **SMALL
            )
            refresh = gr.Button(
                texts.REFRESH.label, scale=0, **SMALL, elem_id="taesd_learnt_refresh", elem_classes=REFRESH_CLASS
            )
        result = gr.HTML(elem_id="taesd_learnt_result", elem_classes="taesd-ext-line")
    # The tab that is open from the start is never selected.
    page.load(look, None, [found, kind], show_progress="hidden")
    for event in (tab.select, refresh.click):
        event(look, None, [found, kind], show_progress="hidden")
    remove.click(forget, kind, [result, found, kind], show_progress="hidden")
