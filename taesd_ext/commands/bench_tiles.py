"""``bench --tiles``: what decoding a big picture in exact tiles costs in time and saves in memory."""

from __future__ import annotations

import statistics
import time
from typing import Any

from taesd_ext.commands.bench_memory import measure_memory
from taesd_ext.commands.bench_ways import TILES, WHOLE, Bench

SIDES = (2048, 4096)
ROUNDS = 3
_MIB = 2**20


def measure_tiles(bench: Bench, side: int, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """One row for each type: seconds in interleaved rounds, and bytes above the weights, each in a fresh process."""
    latent = bench.latent(side)
    rows = []
    for dtype in dict.fromkeys(way.dtype for way in bench.tile_ways()):
        pair = {way.name: way for way in bench.tile_ways() if way.dtype == dtype}
        frames = {name: way.prepare() for name, way in pair.items()}
        for frame in frames.values():
            frame(bench.latent(side // 4))
        seconds: dict[str, list[float]] = {name: [] for name in pair}
        for number in range(rounds):
            # Who goes second finds memory warm or fragmented: they take turns.
            for name in (WHOLE, TILES) if number % 2 == 0 else (TILES, WHOLE):
                begun = time.perf_counter()
                frames[name](latent)
                seconds[name].append(time.perf_counter() - begun)
        ratios = [tiled / whole for tiled, whole in zip(seconds[TILES], seconds[WHOLE], strict=True)]
        rows.append(
            {
                "family": bench.family, "side": side, "dtype": dtype,
                "whole_s": round(statistics.median(seconds[WHOLE]), 2),
                "tiles_s": round(statistics.median(seconds[TILES]), 2),
                "times_whole": round(statistics.median(ratios), 3),
                "whole_bytes": measure_memory(bench, pair[WHOLE].label, side),
                "tiles_bytes": measure_memory(bench, pair[TILES].label, side),
            }
        )  # fmt: skip
    return rows


def print_tiles(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        memory = [f"{row[key] / _MIB:.0f} MB" if row[key] else "?" for key in ("whole_bytes", "tiles_bytes")]
        print(
            f"  {row['side']:>5} px  {row['dtype']:>5}  {WHOLE} {row['whole_s']:7.2f} s {memory[0]:>8}   "
            f"{TILES} {row['tiles_s']:7.2f} s {memory[1]:>7}   {row['times_whole']:.3f} times as long"
        )
