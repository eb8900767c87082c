"""The panel's benchmark: what a preview costs on this machine, at each detail and size."""

from __future__ import annotations

from typing import Any

import gradio as gr

from taesd_ext.commands.quick_bench import SIDES, BenchRow, quick_bench
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui.actions import Codecs
from taesd_ext.ui.choices import picked
from taesd_ext.ui.controls import line, small_button
from taesd_ext.ui.markup import bar_cell, table
from taesd_ext.ui.work import Task, long_action


def result_html(rows: list[BenchRow]) -> str:
    slowest = max((row.milliseconds for row in rows), default=1)
    return table(
        ("Picture", "Detail", "Preview", "Time"),
        [
            (
                f"{row.side} px", row.detail, f"{row.width}x{row.height}",
                bar_cell(row.milliseconds / slowest, f"{row.milliseconds:.1f} ms"),
            )
            for row in rows
        ],
    )  # fmt: skip


def build_benchmark_tab(codecs: Codecs) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        family = gr.Dropdown(
            list(FAMILIES), value=FAMILIES[0], elem_id="taesd_bench_family", label="Family",
            info="its decoder is timed, from the latent to the encoded frame",
        )  # fmt: skip
        largest = gr.Dropdown(
            [str(side) for side in SIDES], value="512", elem_id="taesd_bench_side", label="Up to",
            info="largest picture side in pixels",
        )  # fmt: skip
    with gr.Row():
        run = small_button("Measure", "taesd_bench_run", variant="primary")
        cancel = small_button("Cancel", "taesd_bench_cancel")
    progress, result = line("taesd_bench_progress"), line("taesd_bench_result")

    def bench(task: Task, family: str, largest: str) -> tuple[str, list[Any]]:
        family = picked(family, FAMILIES, "family")
        longest = int(picked(largest, map(str, SIDES), "size"))
        wanted = [side for side in SIDES if side <= longest]
        rows: list[BenchRow] = []
        with codecs.in_turn(task):
            codec = codecs.load(family)
            for row in quick_bench(codec, wanted, is_cancelled=task.stop.is_set):
                rows.append(row)
                share = len(rows) / (len(wanted) * len(codec.details))
                task.report(share, f"{row.side} px at {row.detail}", [result_html(rows)])
        return f"{family} on {codec.device}, {str(codec.dtype).removeprefix('torch.')}", [result_html(rows)]

    long_action(run.click, cancel, [family, largest], progress, [result], bench, "taesd_bench")
