"""The figures of ``bench`` as a picture: time, memory and quality."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from taesd_ext.commands.bench_ways import BASELINE, DIFFUSERS, FULL_VAE
from taesd_ext.commands.outputs import write_atomically
from taesd_ext.errors import TaesdError

PLOT_SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")

_OURS = "#1a73e8"
_OTHERS = {BASELINE: "#9aa0a6", DIFFUSERS: "#c5a15a", FULL_VAE: "#c5a15a"}


def check_plot(path: Path) -> None:
    """Raise TaesdError where :func:`plot` could not draw this file, without drawing."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise TaesdError(f"Cannot draw {path}", "its suffix is unknown", f"Use {', '.join(PLOT_SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise TaesdError("Cannot draw the plot", "matplotlib is not installed", "pip install 'taesd-ext[plot]'")


def plot(report: dict[str, Any], path: Path) -> None:
    """Write the plot; its format goes by the file's ending. Raises TaesdError where :func:`check_plot` does."""
    check_plot(path)
    from matplotlib.figure import Figure

    panels = [kind for kind in ("speed", "memory", "quality") if report.get(kind)]
    figure = Figure(figsize=(6.4 * len(panels), 4.6))
    for number, kind in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        axes.spines[["top", "right"]].set_visible(False)
        if kind == "quality":
            _likeness(axes, report[kind])
        elif kind == "speed":
            _bars(axes, report[kind], "One preview frame", "ms", lambda row: row["ms"])
        else:
            _bars(axes, report[kind], "Peak memory above the weights", "MB", lambda row: row["bytes"] / 2**20)
    found = report["hardware"]
    figure.suptitle(f"{found['cpu']}, {found['threads']} threads, torch {found['torch']}", fontsize=9, color="#5f6368")
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format=path.suffix[1:].lower())
    write_atomically(path, drawn.getvalue())


def _bars(axes: Any, rows: list[dict[str, Any]], title: str, unit: str, value_of: Any) -> None:
    """Of the first family, at 512 pixels or at the largest size measured."""
    own = [row for row in rows if row["family"] == rows[0]["family"]]
    sides = {row["side"] for row in own}
    side = 512 if 512 in sides else max(sides)
    shown = [row for row in own if row["side"] == side]
    values = [max(value_of(row), 0.1) for row in shown]
    bars = axes.barh(range(len(shown)), values, color=[_OTHERS.get(row["way"], _OURS) for row in shown])
    axes.set_yticks(range(len(shown)), [f"{row['way']} {row['dtype']}" for row in shown], fontsize=9)
    labels = [f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}" for value in values]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set_title(f"{title}, {rows[0]['family']}, {side} px", fontsize=11)
    axes.set_xlabel(f"{unit} (logarithmic)")


def _likeness(axes: Any, rows: list[dict[str, Any]]) -> None:
    families = list(dict.fromkeys(row["family"] for row in rows))
    previews = list(dict.fromkeys(row["preview"] for row in rows))
    for number, preview in enumerate(previews):
        found = [row for row in rows if row["preview"] == preview]
        places = [families.index(row["family"]) + (number - len(previews) / 2) * 0.12 for row in found]
        means = [row["psnr"] for row in found]
        down = [row["psnr"] - row["worst_psnr"] for row in found]
        axes.errorbar(
            places, means, [down, [0] * len(found)],
            fmt="o", markersize=5, capsize=2, linewidth=1, label=preview,
        )  # fmt: skip
    axes.set_xticks(range(len(families)), families)
    axes.set_ylabel("PSNR in dB, mean down to the worst picture")
    axes.set_title("Likeness to the averaged full decode", fontsize=11)
    axes.legend(fontsize=8, frameon=False)
