"""The Models tab's report: what a person pastes into a question, made by the same look as ``taesd_ext doctor``."""

from __future__ import annotations

import gradio as gr

from taesd_ext.commands.doctor import diagnose
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import PanelActions


def report(actions: PanelActions) -> str:
    """Versions, families, files, the last error and what previews cost, in plain text."""
    error, stats = actions.last_error(), actions.session().stats
    timings = [f"a preview at detail {stats.detail}: {stats.milliseconds:.1f} ms"] if stats.frames else []
    errors = [error] if error else []
    return diagnose(actions.folders(), host=actions.program, errors=errors, timings=timings).text


def build_report_box(actions: PanelActions) -> None:
    """Add the controls to the tab that is being built."""
    with gr.Accordion(texts.REPORT.label, open=False, elem_id="taesd_report"):
        make = gr.Button(texts.REPORT_MAKE.label, size="sm", elem_id="taesd_report_make")
        text = gr.Textbox(
            lines=12, max_lines=30, interactive=False, elem_id="taesd_report_text", **texts.REPORT_TEXT.control(),
            **compat.copy_button(),
        )  # fmt: skip
    make.click(lambda: report(actions), None, text, show_progress="hidden")
