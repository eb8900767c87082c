"""``bench``: what a preview frame costs on this machine, in time and memory, and how good it is."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.precision import cpu_flags, cpu_model, resolve_dtype
from taesd_ext.commands import bench_films, bench_full, bench_webui
from taesd_ext.commands.arguments import add_models_argument, at_least_one
from taesd_ext.commands.bench_films import FilmBench, print_sizes
from taesd_ext.commands.bench_ways import DTYPES, FULL_VAE, Bench, Frame, Way, measure_memory
from taesd_ext.commands.measuring import Timed, in_turn, median_ratio, megabytes, table, timed
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.commands.progress import progress
from taesd_ext.commands.quality import files_in, measure_quality
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.folders import given_folders, search_folders
from taesd_ext.weights.installed import installed

SIDES, QUICK_SIDES, TILED_SIDES = (256, 512, 1024), (512,), (2048, 4096)
ROUNDS, QUICK_ROUNDS, TILE_ROUNDS = 7, 3, 3

LARGEST_FULL_VAE = 1024
"""Pixels: beyond, the full VAE takes minutes a frame on a CPU."""

SLOW_SECONDS, SLOW_ROUNDS = 8.0, 2
"""A way that takes longer for a frame is timed so often at most, and needs no call before to warm up."""

ROUND_SECONDS, MOST_CALLS = 0.2, 15
"""A cheap way is called several times a round, since a single short call is mostly chance."""

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--families", metavar="A,B,...", help=f"of {', '.join(FAMILIES)} (those installed)")
    add_models_argument(parser)
    parser.add_argument("--sizes", metavar="N,N,...", help="sides of the pictures in pixels")
    parser.add_argument("--rounds", type=at_least_one, metavar="N", help="times that each way is timed, in turn")
    parser.add_argument(
        "--tiles", action="store_true", help="decodes in exact tiles against whole ones instead, at 2048 and 4096 px"
    )
    parser.add_argument("--films", action="store_true", help="moving previews of videos against Forge Neo's instead")
    parser.add_argument("--full", action="store_true", help="full-size VAEs against diffusers' instead")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="pictures to measure the quality on")
    parser.add_argument("--quick", action="store_true", help="one size, few rounds, no full VAE: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    add_overwrite_argument(parser)
    bench_webui.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.json:  # before minutes of measuring, not after
        check_outputs([args.json], overwrite=args.overwrite)
    report = measure(args)
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Every figure that was asked for, printed as it comes."""
    if args.webui:
        return {"hardware": _hardware(), "webui": bench_webui.measure(args)}
    families, sides = _families(args), _sides(args)
    if args.pictures:
        files_in(args.pictures)
    report: dict[str, Any] = {"hardware": _hardware(), "frames": [], "quality": []}
    for family in families if args.full else ():
        with bench_full.full_benches(family) as benches:
            for bench in benches:
                for side in sides:
                    report["frames"] += frame_rows(bench, bench.ways(), side, args.rounds or QUICK_ROUNDS)
                for way, difference in bench_full.differences(bench).items():
                    print(f"{way}: at most {difference:.1e} from diffusers', of its largest value")
    for family in families if not args.full else ():
        bench = (FilmBench if args.films else Bench)(family, tuple(args.models))
        print(f"\n{family}" + ("" if bench.codec().source.decoder else " (made-up weights: no file was found)"))
        if args.pictures:
            report["quality"] += _quality_rows(bench.codec(), args)
        for side in sides:
            if args.tiles:
                for dtype in DTYPES:
                    report["frames"] += frame_rows(bench, bench.tile_ways(dtype), side, args.rounds or TILE_ROUNDS)
            else:
                ways = bench.ways(full_vae=not args.quick and side <= LARGEST_FULL_VAE)
                rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
                report["frames"] += frame_rows(bench, ways, side, rounds, memory=not args.quick and not args.films)
            if args.films:
                print_sizes(side)
    return report


def _quality_rows(codec: Codec, args: argparse.Namespace) -> list[Row]:
    if not codec.has_encoder:
        print(f"No quality figures: {codec.family} has no encoder to make latents with.")
        return []
    return [{"family": codec.family, **vars(row)} for row in measure_quality(codec, args.pictures, args.models)]


def frame_rows(bench: Bench, ways: Sequence[Way], side: int, rounds: int, *, memory: bool = True) -> list[Row]:
    """What each way takes for one frame of ``side`` pixels, in interleaved rounds; printed as a table.

    ``cheaper`` is the median over the rounds of the first way's time over this way's; ``cpu_ms`` is the processor time,
    which a busy machine disturbs less. ``peak_bytes`` is the memory above the weights, each in a fresh process.
    """
    latent = bench.latent(side)
    ready: dict[str, tuple[Way, Frame, Timed[bytes]]] = {}
    for way in progress(ways, len(ways), f"first run at {side} px", "way"):
        try:
            frame = way.prepare()
        except (TaesdError, ImportError) as error:
            print(f"{way.label}: {one_line(error)}", file=sys.stderr)
            continue
        ready[way.label] = way, frame, timed(partial(frame, latent))
    slow = {label: first for label, (*_, first) in ready.items() if first.wall > SLOW_SECONDS}
    wall = {label: [slow[label].wall] if label in slow else [] for label in ready}
    cpu = {label: [slow[label].cpu] if label in slow else [] for label in ready}
    for _, label in in_turn(list(ready), rounds, f"{side} px"):
        _, frame, first = ready[label]
        if label in slow and len(wall[label]) >= min(rounds, SLOW_ROUNDS):
            continue
        count = max(1, min(MOST_CALLS, round(ROUND_SECONDS / max(first.wall, 1e-9))))
        calls = [timed(partial(frame, latent)) for _ in range(count)]
        wall[label].append(statistics.median(call.wall for call in calls))
        cpu[label].append(statistics.median(call.cpu for call in calls))
    peaks = {}
    if memory:
        measured = [label for label, (way, *_) in ready.items() if way.has_memory]
        for label in progress(measured, len(measured), f"memory at {side} px", "run"):
            peaks[label] = measure_memory(bench, label, side)
    base = next(iter(ready))
    rows = [
        {
            "family": bench.family,
            "side": side,
            "way": way.name,
            "dtype": way.dtype,
            "ms": round(1000 * statistics.median(wall[label]), 2),
            "cpu_ms": round(1000 * statistics.median(cpu[label]), 2),
            "cheaper": round(median_ratio(wall[base], wall[label]), 3),
            "cpu_cheaper": round(median_ratio(cpu[base], cpu[label]), 3),
            "frame_bytes": len(first.result),
            "peak_bytes": peaks.get(label),
        }
        for label, (way, _, first) in ready.items()
    ]
    _print_frames(rows, side)
    return rows


def _print_frames(rows: list[Row], side: int) -> None:
    columns = {
        f"{side}x{side}, latent to frame": "{way}", "type": "{dtype}", "ms": "{ms:,.1f}", "cheaper": "{cheaper:.2f}x",
        "CPU ms": "{cpu_ms:,.1f}", "cheaper ": "{cpu_cheaper:.2f}x", "bytes": "{frame_bytes:,}",
    }  # fmt: skip
    if any(row["peak_bytes"] for row in rows):
        columns["peak memory"] = "{peak}"
    print(f"\n{table([{**row, 'peak': megabytes(row['peak_bytes'])} for row in rows], columns)}")
    by_way = {row["way"]: row for row in rows if row["dtype"] == "fp32"}
    if FULL_VAE in by_way and "full" in by_way:
        tiny, full = by_way["full"], by_way[FULL_VAE]
        line = f"{tiny['family']} takes 1/{full['ms'] / tiny['ms']:.1f} of the full VAE's time"
        if tiny["peak_bytes"] and full["peak_bytes"]:
            line += f" and 1/{full['peak_bytes'] / tiny['peak_bytes']:.1f} of its memory"
        print(f"{line}.")


def _hardware() -> dict[str, Any]:
    """What the figures hold for, printed too."""
    found = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": " ".join(cpu_flags()),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "auto_dtype": str(resolve_dtype("auto")).removeprefix("torch."),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }
    print(f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads; {found['flags'] or 'flags unknown'}")
    print(f"{found['system']}, Python {found['python']}, torch {found['torch']}; auto is {found['auto_dtype']}")
    if found["load"] is not None and found["load"] > 1:
        print(f"Something else is running (load {found['load']}): trust the ratios more than the milliseconds.")
    return found


def _families(args: argparse.Namespace) -> list[str]:
    if args.families:
        chosen = args.families.split(",")
        unknown = [family for family in chosen if family not in FAMILIES]
        if unknown:
            raise TaesdError(f"There is no family {unknown[0]}", f"the families are {', '.join(FAMILIES)}")
        return chosen
    if args.films:
        return [bench_films.FAMILY]
    if args.full:
        return list(bench_full.KINDS)
    found = installed(search_folders(given_folders(args.models)))
    with_decoder = [family for family, parts in found.items() if "decoder" in parts]
    return (with_decoder or ["taesd"])[: 1 if args.quick else None]


def _sides(args: argparse.Namespace) -> Sequence[int]:
    if not args.sizes:
        if args.films or args.full:
            return bench_films.SIDES if args.films else bench_full.SIDES
        return TILED_SIDES if args.tiles else QUICK_SIDES if args.quick else SIDES
    try:
        sides = [int(side) for side in args.sizes.split(",")]
    except ValueError as error:
        raise TaesdError(f"--sizes {args.sizes} is not a list of numbers", "", "Write --sizes 256,512") from error
    if min(sides) < 32:
        raise TaesdError(f"{min(sides)} pixels are too few to time", "", "Use at least 32")
    return sides
