"""The figures of ``bench``: rows for the report, each kind printed as a table when it is there."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.commands.approx_nn import SCALE, find_approx_nn
from taesd_ext.commands.bench_memory import measure_memory
from taesd_ext.commands.bench_ways import BASELINE, DIFFUSERS, EMBEDDED, FULL_VAE, TILES, WHOLE, Bench, Frame, Way
from taesd_ext.commands.measuring import in_turn, median_ratio, megabytes, table, timed
from taesd_ext.commands.progress import progress
from taesd_ext.commands.quality import preview_quality
from taesd_ext.errors import TaesdError, one_line

Row = dict[str, Any]

TILE_ROUNDS = 3
LARGEST_FULL_VAE = 1024
"""Pixels: beyond, the full VAE takes minutes a frame on a CPU."""
SLOW_SECONDS, SLOW_ROUNDS = 8.0, 2
"""A way that takes longer for a frame is timed in the first rounds only."""

_MEMORY_WAYS = (BASELINE, "full", "1/4", "1/8", EMBEDDED, DIFFUSERS, FULL_VAE)


def speed_rows(bench: Bench, ways: Iterable[Way], side: int, rounds: int) -> list[Row]:
    """The ways in interleaved rounds.

    ``cheaper`` is the median over the rounds of the baseline's time over this way's; ``cpu_ms`` is the processor time,
    which a busy machine disturbs less.
    """
    latent = bench.latent(side)
    ready: dict[str, tuple[Way, Frame, bytes]] = {}
    slow: set[str] = set()
    for way, frame in _prepared(ways):
        first = timed(lambda frame=frame: frame(latent))
        ready[way.label] = way, frame, first.result
        if first.wall > SLOW_SECONDS:
            slow.add(way.label)
    wall: dict[str, list[float]] = {label: [] for label in ready}
    cpu: dict[str, list[float]] = {label: [] for label in ready}
    for number, label in in_turn(list(ready), rounds, f"{side} px"):
        if label in slow and number >= SLOW_ROUNDS:
            continue
        way, frame, _ = ready[label]
        # A cheap way is called several times a round, since a single short call is mostly chance.
        calls = [timed(lambda frame=frame: frame(latent)) for _ in range(max(1, min(15, round(0.3 / way.share))))]
        wall[label].append(statistics.median(call.wall for call in calls))
        cpu[label].append(statistics.median(call.cpu for call in calls))
    base = next(iter(ready))
    rows = [
        {
            "way": way.name,
            "dtype": way.dtype,
            "ms": round(1000 * statistics.median(wall[label]), 2),
            "cpu_ms": round(1000 * statistics.median(cpu[label]), 2),
            "cheaper": round(median_ratio(wall[base], wall[label]), 2),
            "cpu_cheaper": round(median_ratio(cpu[base], cpu[label]), 2),
            "bytes": len(data),
        }
        for label, (way, _, data) in ready.items()
    ]
    columns = {
        f"{side}x{side}, decode to encoded frame": "{way}", "type": "{dtype}", "ms": "{ms:.1f}",
        "cheaper": "{cheaper:.1f}x", "CPU ms": "{cpu_ms:.1f}", "cheaper ": "{cpu_cheaper:.1f}x", "bytes": "{bytes:,}",
    }  # fmt: skip
    print(f"\n{table(rows, columns)}")
    return [{"family": bench.family, "side": side, **row} for row in rows]


def _prepared(ways: Iterable[Way]) -> Iterator[tuple[Way, Frame]]:
    for way in ways:
        try:
            yield way, way.prepare()
        except (TaesdError, ImportError) as error:
            print(f"{way.label}: {one_line(error)}", file=sys.stderr)


def memory_rows(bench: Bench, sides: Sequence[int]) -> list[Row]:
    """Peak memory above the weights, each in a fresh process."""
    ways = [(side, way) for side in sides for way in bench.ways(full_vae=side <= LARGEST_FULL_VAE)]
    ways = [(side, way) for side, way in ways if way.name in _MEMORY_WAYS]
    rows = []
    for side, way in progress(ways, len(ways), "memory", "run"):
        peak = measure_memory(bench, way.label, side)
        if peak is not None:
            rows.append({"family": bench.family, "side": side, "way": way.name, "dtype": way.dtype, "bytes": peak})
    shown = [{**row, "peak": megabytes(row["bytes"])} for row in rows]
    columns = {"peak memory above the weights": "{way}", "type": "{dtype}", "px": "{side}", "peak": "{peak}"}
    print(f"\n{table(shown, columns)}")
    return rows


def tile_rows(bench: Bench, side: int) -> list[Row]:
    """One row for each type: seconds in interleaved rounds, and bytes above the weights, each in a fresh process."""
    latent = bench.latent(side)
    rows = []
    for dtype in dict.fromkeys(way.dtype for way in bench.tile_ways()):
        ways = {way.name: way for way in bench.tile_ways() if way.dtype == dtype}
        frames = {name: way.prepare() for name, way in ways.items()}
        for frame in frames.values():
            frame(bench.latent(side // 4))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _, name in in_turn(list(ways), TILE_ROUNDS, f"{side} px, {dtype}"):
            seconds[name].append(timed(lambda frame=frames[name]: frame(latent)).wall)
        rows.append(
            {
                "family": bench.family,
                "side": side,
                "dtype": dtype,
                "whole_s": round(statistics.median(seconds[WHOLE]), 2),
                "tiles_s": round(statistics.median(seconds[TILES]), 2),
                "times_whole": round(median_ratio(seconds[TILES], seconds[WHOLE]), 3),
                "whole_bytes": measure_memory(bench, ways[WHOLE].label, side),
                "tiles_bytes": measure_memory(bench, ways[TILES].label, side),
            }
        )
    shown = [
        {**row, "whole_mb": megabytes(row["whole_bytes"]), "tiles_mb": megabytes(row["tiles_bytes"])} for row in rows
    ]
    columns = {
        "px": "{side}", "type": "{dtype}", WHOLE: "{whole_s:.2f} s", "": "{whole_mb}", TILES: "{tiles_s:.2f} s",
        " ": "{tiles_mb}", "times as long": "{times_whole:.3f}",
    }  # fmt: skip
    print(f"\n{table(shown, columns)}")
    return rows


def quality_rows(codec: Codec, models: Iterable[Path], photos: Sequence[Tensor]) -> list[Row]:
    """Every cheap preview of the photographs' latents against the area-averaged full decode."""
    if not codec.has_encoder:
        print(f"\nNo quality figures: {codec.family} has no encoder to make latents with.")
        return []
    approximate = find_approx_nn(codec.format.name, models)
    others = {"Approx NN": (approximate, SCALE)} if approximate else {}
    latents = [codec.encode(photo) for photo in progress(photos, len(photos), "encode", "picture")]
    rows = preview_quality(codec, progress(latents, len(latents), "quality", "picture"), others)
    print(f"\nAgainst the area-averaged full decode, {len(latents)} pictures")
    for row in rows:
        print(row)
    return [
        {
            "family": codec.family,
            "preview": row.preview,
            "scale": row.scale,
            "psnr": round(row.psnr, 2),
            "worst_psnr": round(row.worst_psnr, 2),
            "ssim": round(row.ssim, 4),
        }
        for row in rows
    ]


def print_against_full_vae(report: dict[str, list[Row]], family: str) -> None:
    """What the tiny autoencoder saves, where the full one of the same latents was measured too."""
    speed, memory = (
        {(row["side"], row["way"]): row for row in report[kind] if row["family"] == family and row["dtype"] == "fp32"}
        for kind in ("speed", "memory")
    )
    for side in sorted({side for side, way in speed if way == FULL_VAE}):
        tiny, full = (side, "full"), (side, FULL_VAE)
        if tiny in memory and full in memory and tiny in speed:
            print(
                f"At {side} px {family} takes 1/{speed[full]['ms'] / speed[tiny]['ms']:.1f} of the full VAE's time "
                f"and 1/{memory[full]['bytes'] / memory[tiny]['bytes']:.1f} of its memory."
            )
