"""``bench``: what a preview frame costs on this machine, in time and memory, and how good it is."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from taesd_ext.codec.precision import cpu_flags, cpu_model, resolve_dtype
from taesd_ext.commands import bench_webui
from taesd_ext.commands.approx_nn import SCALE, find_approx_nn
from taesd_ext.commands.bench_memory import measure_memory
from taesd_ext.commands.bench_plot import check_plot, plot
from taesd_ext.commands.bench_tiles import SIDES as TILED_SIDES
from taesd_ext.commands.bench_tiles import measure_tiles, print_tiles
from taesd_ext.commands.bench_ways import BASELINE, DIFFUSERS, FULL_VAE, Bench, Frame, Way
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.commands.quality import preview_quality, read_photos
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.folders import given_folders, search_folders
from taesd_ext.weights.installed import installed

SIDES, QUICK_SIDES = (256, 512, 1024), (512,)
ROUNDS, QUICK_ROUNDS = 7, 3
LARGEST_FULL_VAE = 1024
"""Pixels: beyond, the full VAE takes minutes a frame on a CPU."""
SLOW_SECONDS, SLOW_ROUNDS = 8.0, 2
"""A way that takes longer for a frame is timed in the first rounds only."""

_MEMORY_WAYS = (BASELINE, "full", "1/4", "1/8", "embedded previewer", DIFFUSERS, FULL_VAE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--families", metavar="A,B,...", help=f"of {', '.join(FAMILIES)} (those installed)")
    parser.add_argument("--models", action="append", default=[], metavar="DIR", help="a folder of weight files")
    parser.add_argument("--sizes", metavar="N,N,...", help="sides of the pictures in pixels")
    parser.add_argument(
        "--tiles", action="store_true", help="decodes in exact tiles against whole ones instead, at 2048 and 4096 px"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="pictures to measure the quality on")
    parser.add_argument("--quick", action="store_true", help="one size, few rounds, no full VAE: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures (needs matplotlib)")
    add_overwrite_argument(parser)
    bench_webui.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    _check_outputs(args)
    if args.webui:
        report: dict[str, Any] = {"hardware": hardware(), "webui": bench_webui.measure(args)}
        print_hardware(report["hardware"])
        bench_webui.print_table(report["webui"])
    else:
        report = measure(args)
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=1) + "\n").encode())
    if args.plot:
        plot(report, args.plot)
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Before minutes of measuring, not after."""
    if args.plot:
        if args.webui or args.tiles:
            raise TaesdError("There is no plot for this", "--plot draws frames' costs", "Leave out --webui and --tiles")
        check_plot(args.plot)
    targets = [path for path in (args.json, args.plot) if path]
    if len(set(targets)) < len(targets):
        raise TaesdError(f"{args.json} would be written twice", "", "Give --json and --plot files of their own")
    check_outputs(targets, overwrite=args.overwrite)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    families = _families(args)
    sides = _sides(args)
    photos = read_photos(args.pictures) if args.pictures else []
    report: dict[str, Any] = {"hardware": hardware(), "speed": [], "memory": [], "quality": [], "tiles": []}
    print_hardware(report["hardware"])
    for family in families:
        bench = Bench(family, tuple(args.models))
        print(f"\n{family}" + ("" if bench.has_weights else " (made-up weights: no file was found)"))
        if args.tiles:
            for side in sides:
                rows = measure_tiles(bench, side)
                print_tiles(rows)
                report["tiles"] += rows
            continue
        for side in sides:
            ways = bench.ways(full_vae=not args.quick and side <= LARGEST_FULL_VAE)
            rows = time_ways(bench, ways, side, QUICK_ROUNDS if args.quick else ROUNDS)
            _print_speed(side, rows)
            report["speed"] += [{"family": family, "side": side, **row} for row in rows]
        if not args.quick:
            report["memory"] += _memory(bench, sides)
            _print_against_full_vae(report, family)
        if photos and bench.has_weights:
            report["quality"] += _quality(bench, args, photos)
    return report


def time_ways(bench: Bench, ways: Iterable[Way], side: int, rounds: int) -> list[dict[str, Any]]:
    """Time all ways in turn, round by round, so that what else the machine does meets all of them alike.

    ``cheaper`` is the median over the rounds of the baseline's time over this way's; ``cpu_ms`` is the processor time,
    which a busy machine disturbs less.
    """
    latent = bench.latent(side)
    ready: list[tuple[Way, Frame]] = []
    size: dict[str, int] = {}
    slow: set[str] = set()
    for way in ways:
        begun = time.perf_counter()
        try:
            frame = way.prepare()
            size[way.label] = len(frame(latent))
        except TaesdError as error:
            print(f"  {way.label}: {one_line(error)}", file=sys.stderr)
            continue
        ready.append((way, frame))
        if time.perf_counter() - begun > SLOW_SECONDS:
            slow.add(way.label)
    walls: dict[str, list[float]] = {way.label: [] for way, _ in ready}
    processors: dict[str, list[float]] = {way.label: [] for way, _ in ready}
    for number in range(rounds):
        for way, frame in ready:
            if way.label in slow and number >= SLOW_ROUNDS:
                continue
            times = [_timed(frame, latent) for _ in range(_calls(way))]
            walls[way.label].append(statistics.median(wall for wall, _ in times))
            processors[way.label].append(statistics.median(cpu for _, cpu in times))
    return [
        {
            "way": way.name,
            "dtype": way.dtype,
            "ms": round(statistics.median(walls[way.label]), 2),
            "cpu_ms": round(statistics.median(processors[way.label]), 2),
            "cheaper": round(_ratio(walls, way.label), 2),
            "cpu_cheaper": round(_ratio(processors, way.label), 2),
            "bytes": size[way.label],
        }
        for way, _ in ready
    ]


def hardware() -> dict[str, Any]:
    return {
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


def print_hardware(found: dict[str, Any]) -> None:
    print(f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads; {found['flags'] or 'flags unknown'}")
    print(f"{found['system']}, Python {found['python']}, torch {found['torch']}; auto is {found['auto_dtype']}")
    if found["load"] is not None and found["load"] > 1:
        print(f"Something else runs here (load {found['load']}): trust the ratios more than the milliseconds.")


def _families(args: argparse.Namespace) -> list[str]:
    if args.families:
        chosen = args.families.split(",")
        unknown = [family for family in chosen if family not in FAMILIES]
        if unknown:
            raise TaesdError(f"There is no family {unknown[0]}", f"the families are {', '.join(FAMILIES)}")
        return chosen
    found = installed(search_folders(given_folders(args.models)))
    with_decoder = [family for family, parts in found.items() if "decoder" in parts]
    return (with_decoder or ["taesd"])[: 1 if args.quick else None]


def _sides(args: argparse.Namespace) -> Sequence[int]:
    if not args.sizes:
        return TILED_SIDES if args.tiles else QUICK_SIDES if args.quick else SIDES
    try:
        sides = [int(side) for side in args.sizes.split(",")]
    except ValueError as error:
        raise TaesdError(f"--sizes {args.sizes} is no list of numbers", "", "Write --sizes 256,512") from error
    if min(sides) < 32:
        raise TaesdError(f"{min(sides)} pixels are too few to time", "", "Use at least 32")
    return sides


def _timed(frame: Frame, latent: torch.Tensor) -> tuple[float, float]:
    """(wall, processor) milliseconds"""
    wall, processor = time.perf_counter(), time.process_time()
    frame(latent)
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor)


def _calls(way: Way) -> int:
    """A cheap way is called several times a round, since a single short call is mostly chance."""
    return max(1, min(15, round(0.3 / way.share)))


def _ratio(times: dict[str, list[float]], label: str) -> float:
    """The median over the rounds of the baseline's time over this one's, which may have taken part in fewer."""
    baseline = next(found for name, found in times.items() if name.startswith(BASELINE))
    return statistics.median(base / max(own, 1e-6) for base, own in zip(baseline, times[label], strict=False))


def _print_speed(side: int, rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n  One frame of {side}x{side}: decode, convert, encode (median of interleaved rounds)")
    print(f"  {'':<28} {'type':>5} {'ms':>9} {'cheaper':>8} {'CPU ms':>9} {'cheaper':>8} {'KB':>6}")
    for row in rows:
        print(
            f"  {row['way']:<28} {row['dtype']:>5} {row['ms']:9.1f} {row['cheaper']:7.1f}x "
            f"{row['cpu_ms']:9.1f} {row['cpu_cheaper']:7.1f}x {row['bytes'] / 1024:6.0f}"
        )


def _memory(bench: Bench, sides: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    print("\n  Peak memory above the weights, each in a fresh process (MB)")
    for side in sides:
        for way in bench.ways(full_vae=side <= LARGEST_FULL_VAE):
            if way.name not in _MEMORY_WAYS:
                continue
            peak = measure_memory(bench, way.label, side)
            if peak is not None:
                print(f"  {side:>5} px  {way.label:<34} {peak / 2**20:8.0f}")
                rows.append({"family": bench.family, "side": side, "way": way.name, "dtype": way.dtype, "bytes": peak})
    return rows


def _print_against_full_vae(report: dict[str, Any], family: str) -> None:
    """What the tiny autoencoder saves, where the full one of the same latents was measured too."""
    for side in sorted({row["side"] for row in report["speed"]}):
        found = [
            {(row["way"], row["dtype"]): row for row in report[table] if (row["family"], row["side"]) == (family, side)}
            for table in ("speed", "memory")
        ]
        tiny, full = ("full", "fp32"), (FULL_VAE, "fp32")
        if all(key in rows for rows in found for key in (tiny, full)):
            speed, memory = found
            print(
                f"  At {side} px {family} takes 1/{speed[full]['ms'] / speed[tiny]['ms']:.1f} of the full VAE's time "
                f"and 1/{memory[full]['bytes'] / memory[tiny]['bytes']:.1f} of its memory."
            )


def _quality(bench: Bench, args: argparse.Namespace, photos: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
    codec = bench.codec()
    if not codec.has_encoder:
        print(f"\n  No quality figures: {bench.family} has no encoder to make latents with.")
        return []
    others = {}
    folders = search_folders(given_folders(args.models))
    approximate = find_approx_nn(codec.format.name, [*map(Path, args.models), *folders])
    if approximate:
        others["Approx NN"] = (approximate, SCALE)
    latents = [codec.encode(photo) for photo in photos]
    rows = preview_quality(codec, latents, others)
    print(f"\n  Against the area-averaged full decode, {len(latents)} pictures of {args.pictures.name}")
    for row in rows:
        print(f"  {row}")
    return [
        {"family": bench.family, "preview": row.preview, "scale": row.scale, "psnr": round(row.psnr, 2),
         "worst_psnr": round(row.worst_psnr, 2), "ssim": round(row.ssim, 4)}
        for row in rows
    ]  # fmt: skip
