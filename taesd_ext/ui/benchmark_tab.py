"""The panel's benchmark: what a preview costs on this machine, at each detail and size."""

import statistics
from typing import Any

import gradio as gr
import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.commands.measuring import timed
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.preview.frame import preview_image
from taesd_ext.ui.actions import Codecs
from taesd_ext.ui.controls import line, picked, small_button
from taesd_ext.ui.markup import bar_cell, table
from taesd_ext.ui.work import Task, long_action

SIDES = (256, 512, 1024)
RUNS = 3


def time_preview(codec: Codec, side: int, detail: str, runs: int = RUNS) -> tuple[float, tuple[int, int]]:
    """(median milliseconds, (width, height)) of a preview of a square picture, from the latent to the encoded frame."""
    positions = -(-side // codec.spatial_scale_factor)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, codec.latent_channels, positions, positions, generator=generator).to(codec.device)
    calls = [timed(lambda: preview_image(codec.decode(latent, detail=detail))) for _ in range(runs + 1)]
    return 1000 * statistics.median(call.wall for call in calls[1:]), calls[0].result.size  # the first warms up


def build_benchmark_tab(codecs: Codecs) -> None:
    """Fill the tab that is being built."""
    with gr.Row():
        family = gr.Dropdown(
            list(FAMILIES), value=FAMILIES[0], elem_id="taesd_bench_family", label="Family",
            info="times its decoder, from the latent to the encoded frame",
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
        rows: list[tuple[str, str, str, float]] = []
        with codecs.in_turn(task):
            codec = codecs.load(family)
            wanted = [(side, detail) for side in SIDES if side <= longest for detail in codec.details]
            for side, detail in wanted:
                milliseconds, (width, height) = time_preview(codec, side, detail)
                rows.append((f"{side} px", detail, f"{width}x{height}", milliseconds))
                task.report(len(rows) / len(wanted), f"{side} px at {detail}", [result_html(rows)])
        return f"{codec.title} on {codec.device}, {str(codec.dtype).removeprefix('torch.')}", [result_html(rows)]

    long_action(run.click, cancel, [family, largest], progress, [result], bench, "taesd_bench")


def result_html(rows: list[tuple[str, str, str, float]]) -> str:
    slowest = max(milliseconds for *_, milliseconds in rows)
    bars = [(*words, bar_cell(taken / slowest, f"{taken:.1f} ms")) for *words, taken in rows]
    return table(("Picture", "Detail", "Preview", "Time"), bars)
