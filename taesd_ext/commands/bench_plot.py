"""The figures of ``bench`` as a picture: time, memory and quality."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from taesd_ext.commands.outputs import write_atomically
from taesd_ext.errors import TaesdError

_COLOURS = {"baseline": "#9aa0a6", "ours": "#1a73e8", "other": "#c5a15a"}
_OURS = ("full", "1/2", "1/4", "1/8", "embedded previewer", "linear RGB")


PLOT_SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


def check_plot(path: Path) -> None:
    """Raise TaesdError where :func:`plot` could not draw this file, without drawing."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise TaesdError(f"Cannot draw {path}", "its suffix is unknown", f"Use {', '.join(PLOT_SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise TaesdError("Cannot draw the plot", "matplotlib is not installed", "pip install 'taesd-ext[plot]'")


def plot(report: dict[str, Any], path: Path) -> None:
    """Write the plot; its format goes by the file's ending. Raises TaesdError where :func:`check_plot` does."""
    check_plot(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [draw for key, draw in _PANELS.items() if report.get(key)]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(6.4 * len(panels), 4.6), squeeze=False)
    for draw, ax in zip(panels, axes[0], strict=True):
        draw(ax, report)
        ax.spines[["top", "right"]].set_visible(False)
    found = report["hardware"]
    figure.suptitle(f"{found['cpu']}, {found['threads']} threads, torch {found['torch']}", fontsize=9, color="#5f6368")
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format=path.suffix[1:].lower())
    pyplot.close(figure)
    write_atomically(path, drawn.getvalue())


def _speed(ax: Any, report: dict[str, Any]) -> None:
    rows = _one_size(report["speed"])
    names = [f"{row['way']} {row['dtype']}".strip() for row in rows]
    labels = [f"{_figures(row['ms'])} ms" for row in rows]
    _bars(ax, names, [row["ms"] for row in rows], [row["way"] for row in rows], labels)
    ax.set_title(f"One preview frame of {rows[0]['family']}, {rows[0]['side']} px", fontsize=11)
    ax.set_xlabel("milliseconds, decode to encoded picture (logarithmic)")


def _memory(ax: Any, report: dict[str, Any]) -> None:
    rows = _one_size(report["memory"])
    names = [f"{row['way']} {row['dtype']}".strip() for row in rows]
    megabytes = [max(row["bytes"] / 2**20, 0.1) for row in rows]
    _bars(ax, names, megabytes, [row["way"] for row in rows], [f"{_figures(value)} MB" for value in megabytes])
    ax.set_title(f"Peak memory above the weights, {rows[0]['side']} px", fontsize=11)
    ax.set_xlabel("megabytes (logarithmic)")


def _quality(ax: Any, report: dict[str, Any]) -> None:
    families = list(dict.fromkeys(row["family"] for row in report["quality"]))
    previews = list(dict.fromkeys(row["preview"] for row in report["quality"]))
    for number, preview in enumerate(previews):
        found = {row["family"]: row for row in report["quality"] if row["preview"] == preview}
        places = [families.index(family) + (number - len(previews) / 2) * 0.12 for family in found]
        ax.errorbar(
            places,
            [row["psnr"] for row in found.values()],
            yerr=[[row["psnr"] - row["worst_psnr"] for row in found.values()], [0] * len(found)],
            fmt="o", markersize=5, capsize=2, linewidth=1, label=preview,
        )  # fmt: skip
    ax.set_xticks(range(len(families)), families)
    ax.set_ylabel("PSNR in dB, mean down to the worst picture")
    ax.set_title("Likeness to the averaged full decode", fontsize=11)
    ax.legend(fontsize=8, frameon=False)


_PANELS = {"speed": _speed, "memory": _memory, "quality": _quality}


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _one_size(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first family's rows at 512 pixels, or at the largest size measured."""
    own = [row for row in rows if row["family"] == rows[0]["family"]]
    sides = {row["side"] for row in own}
    return [row for row in own if row["side"] == (512 if 512 in sides else max(sides))]


def _bars(ax: Any, names: list[str], values: list[float], ways: list[str], labels: list[str]) -> None:
    colours = [
        _COLOURS["baseline" if number == 0 else "ours" if way in _OURS else "other"] for number, way in enumerate(ways)
    ]
    bars = ax.barh(range(len(names)), values, color=colours)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.bar_label(bars, labels, padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.margins(x=0.25)
