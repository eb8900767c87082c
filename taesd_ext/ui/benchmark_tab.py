"""The panel's benchmark: what a preview costs on this machine, at each detail and size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import groupby

import gradio as gr

from taesd_ext.commands.quick_bench import SIDES, BenchRow, quick_bench
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import texts
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.background import Background, Report
from taesd_ext.ui.markup import notice, progress_bar, table
from taesd_ext.ui.plots import bars


def result_html(rows: list[BenchRow]) -> str:
    groups = [
        (f"{side} px", [(row.detail, row.milliseconds) for row in group])
        for side, group in groupby(rows, key=lambda row: row.side)
    ]
    cells = [
        (f"{row.side} px", row.detail, f"{row.width}x{row.height}", f"{row.milliseconds:.1f} ms") for row in rows
    ]
    return bars(groups, "ms") + table(texts.BENCHMARK_HEAD, cells)


def build_benchmark_tab(actions: PanelActions) -> None:
    """Fill the tab that is being built."""
    work = Background()
    with gr.Row():
        family = gr.Dropdown(
            list(FAMILIES), value=FAMILIES[0], elem_id="taesd_bench_family", **texts.BENCHMARK_FAMILY.control()
        )
        largest = gr.Dropdown(
            [str(side) for side in SIDES], value="512", elem_id="taesd_bench_side", **texts.BENCHMARK_SIDE.control()
        )
        with gr.Column(scale=0, min_width=150):
            run = gr.Button(texts.BENCHMARK_RUN.label, variant="primary", size="sm", elem_id="taesd_bench_run")
            cancel = gr.Button(texts.CANCEL.label, size="sm", elem_id="taesd_bench_cancel")
    progress = gr.HTML(elem_id="taesd_bench_progress", elem_classes="taesd-ext-line")
    result = gr.HTML(elem_id="taesd_bench_result", elem_classes="taesd-ext-line")

    def bench(family: str, largest: str) -> Iterator[list[str]]:
        rows: list[BenchRow] = []
        sides = [side for side in SIDES if side <= int(largest)]

        def body(report: Report, stop: threading.Event) -> str:
            with actions.exclusive():
                codec = actions.codec_for(family)
                for row in quick_bench(codec, sides, is_cancelled=stop.is_set):
                    rows.append(row)
                    report(len(rows) / (len(sides) * len(codec.details)), f"{row.side} px at {row.detail}")
            return f"{family} on {codec.device}, {str(codec.dtype).removeprefix('torch.')}"

        for sight in work.run(body):
            if sight.error:
                yield [notice(sight.error, "bad"), ""]
            elif sight.done:
                yield [notice(sight.words, "good"), result_html(rows)]
            else:
                yield [progress_bar(sight.share, sight.words), result_html(rows)]

    run.click(bench, [family, largest], [progress, result], show_progress="hidden")
    cancel.click(work.cancel, None, None)
