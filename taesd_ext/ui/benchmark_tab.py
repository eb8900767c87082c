"""The panel's benchmark: what a preview costs on this machine, at each detail and size."""

from __future__ import annotations

from typing import Any

import gradio as gr

from taesd_ext.commands.quick_bench import SIDES, BenchRow, quick_bench
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.choices import picked
from taesd_ext.ui.markup import bar_cell, table
from taesd_ext.ui.work import Task, interruptible, long_action


def result_html(rows: list[BenchRow]) -> str:
    slowest = max((row.milliseconds for row in rows), default=1)
    return table(
        texts.BENCHMARK_HEAD,
        [
            (
                f"{row.side} px", row.detail, f"{row.width}x{row.height}",
                bar_cell(row.milliseconds / slowest, f"{row.milliseconds:.1f} ms"),
            )
            for row in rows
        ],
    )  # fmt: skip


def build_benchmark_tab(actions: PanelActions) -> None:
    """Fill the tab that is being built."""
    sides = [str(side) for side in SIDES]
    with gr.Row():
        family = gr.Dropdown(
            list(FAMILIES), value=FAMILIES[0], elem_id="taesd_bench_family", **texts.BENCHMARK_FAMILY.control()
        )
        largest = gr.Dropdown(sides, value="512", elem_id="taesd_bench_side", **texts.BENCHMARK_SIDE.control())
        with gr.Column(scale=0, min_width=150):
            run = gr.Button(texts.BENCHMARK_RUN.label, variant="primary", size="sm", elem_id="taesd_bench_run")
            cancel = gr.Button(texts.CANCEL.label, size="sm", elem_id="taesd_bench_cancel")
    progress = gr.HTML(elem_id="taesd_bench_progress", elem_classes="taesd-ext-line")
    result = gr.HTML(elem_id="taesd_bench_result", elem_classes="taesd-ext-line")

    def bench(task: Task, family: str, largest: str) -> tuple[str, list[Any]]:
        family = picked(family, FAMILIES, "family")
        longest = int(picked(largest, sides, "size"))
        wanted = [side for side in SIDES if side <= longest]
        rows: list[BenchRow] = []
        with actions.exclusive(), interruptible(task):
            codec = actions.codec_for(family)
            for row in quick_bench(codec, wanted, is_cancelled=task.stop.is_set):
                rows.append(row)
                share = len(rows) / (len(wanted) * len(codec.details))
                task.report(share, f"{row.side} px at {row.detail}", [result_html(rows)])
        return f"{family} on {codec.device}, {str(codec.dtype).removeprefix('torch.')}", [result_html(rows)]

    long_action(run.click, cancel, [family, largest], progress, [result], bench, "taesd_bench")
