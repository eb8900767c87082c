"""The Models tab's part for previews learnt from finished images: how good each is, and forget."""

from typing import Any

import gradio as gr

from taesd_ext.ui.actions import LearntPreviewers, PanelActions
from taesd_ext.ui.controls import AT_ONCE, late_dropdown, line, picked, refresh_button, small_button
from taesd_ext.ui.markup import notice, outcome, table

NOTHING_LEARNT = "Nothing has been learned yet: this is for models without a tiny decoder."


def build_learnt_box(actions: PanelActions, previewers: LearntPreviewers, tab: gr.Tab, page: gr.Blocks) -> None:
    """Add the controls to the tab that is being built."""

    def look() -> list[Any]:
        learnt = {kind.title: made for kind, made in previewers.learnt().items()}
        rows = [(title, f"{made.psnr:.1f} dB", f"{made.pictures}") for title, made in learnt.items()]
        shown = table(("Model", "PSNR", "Images"), rows) if rows else notice(NOTHING_LEARNT)
        return [shown, gr.update(choices=list(learnt), value=None)]

    def forget(chosen: Any) -> list[Any]:
        def change() -> str:
            actions.require_change()
            known = {kind.title: kind for kind in previewers.learnt()}
            previewers.forget(known[picked(chosen, known, "preview")])
            return ""

        return [outcome(change), *look()]

    with gr.Accordion("Previews learned from finished images", open=False, elem_id="taesd_learnt"):
        found = gr.HTML(elem_id="taesd_learnt_table")
        with gr.Row():
            kind = late_dropdown(
                "taesd_learnt_kind", label="Learned preview", info="it is learned again from the next finished images"
            )
            remove = small_button("Forget", "taesd_learnt_forget", interactive=actions.allowed_to_change())
            refresh = refresh_button("taesd_learnt_refresh")
        result = line("taesd_learnt_result")
    # The tab that is open from the start is never selected.
    for event in (page.load, tab.select, refresh.click):
        event(look, None, [found, kind], **AT_ONCE)
    remove.click(forget, kind, [result, found, kind], **AT_ONCE)
