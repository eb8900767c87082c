"""``bench``: what a preview frame costs on this machine, in time and memory, and how good it is."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from taesd_ext.codec.precision import cpu_flags, cpu_model, resolve_dtype
from taesd_ext.commands import bench_webui
from taesd_ext.commands.bench_figures import (
    LARGEST_FULL_VAE,
    memory_rows,
    print_against_full_vae,
    quality_rows,
    speed_rows,
    tile_rows,
)
from taesd_ext.commands.bench_plot import check_plot, plot
from taesd_ext.commands.bench_ways import Bench
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.commands.quality import read_photos
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.folders import given_folders, search_folders
from taesd_ext.weights.installed import installed

SIDES, QUICK_SIDES, TILED_SIDES = (256, 512, 1024), (512,), (2048, 4096)
ROUNDS, QUICK_ROUNDS = 7, 3


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
    """Every figure that was asked for, printed as it comes."""
    if args.webui:
        return {"hardware": _hardware(), "webui": bench_webui.measure(args)}
    families, sides = _families(args), _sides(args)
    photos = read_photos(args.pictures) if args.pictures else []
    report: dict[str, Any] = {"hardware": _hardware(), "speed": [], "memory": [], "quality": [], "tiles": []}
    for family in families:
        bench = Bench(family, tuple(args.models))
        print(f"\n{family}" + ("" if bench.has_weights else " (made-up weights: no file was found)"))
        if args.tiles:
            for side in sides:
                report["tiles"] += tile_rows(bench, side)
            continue
        for side in sides:
            ways = bench.ways(full_vae=not args.quick and side <= LARGEST_FULL_VAE)
            report["speed"] += speed_rows(bench, ways, side, QUICK_ROUNDS if args.quick else ROUNDS)
        if not args.quick:
            report["memory"] += memory_rows(bench, sides)
            print_against_full_vae(report, family)
        if photos and bench.has_weights:
            folders = [*map(Path, args.models), *search_folders(given_folders(args.models))]
            report["quality"] += quality_rows(bench.codec(), folders, photos)
    return report


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
        print(f"Something else runs here (load {found['load']}): trust the ratios more than the milliseconds.")
    return found


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
