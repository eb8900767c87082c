"""``compare``: pictures through every codec, with what each costs and what it loses."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.embedded import embedded_names
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, read_picture
from taesd_ext.commands.arguments import at_least_one
from taesd_ext.commands.codec_arguments import add_codec_arguments, load_from_arguments
from taesd_ext.commands.compare_page import Made, comparison_page, comparison_sheet
from taesd_ext.commands.jobs import find_files
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.commands.progress import progress
from taesd_ext.commands.round_trip import RoundTrip, measure
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS
from taesd_ext.weights.folders import given_folders, search_folders
from taesd_ext.weights.installed import installed
from taesd_ext.weights.installed_vaes import installed_vaes
from taesd_ext.weights.tiny_file import PARTS
from taesd_ext.weights.vae_table import FULL_NAMES

PAGE, SHEET, NUMBERS = "compare.html", "compare.png", "compare.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="picture files, folders, or patterns")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help=f"folder for {PAGE}, {SHEET} and {NUMBERS}"
    )
    parser.add_argument(
        "--codecs", metavar="A,B,...",
        help=f"{', '.join(FAMILIES + FULL_NAMES)}, or weight files (default: all that are installed)",
    )  # fmt: skip
    parser.add_argument(
        "--side", type=at_least_one, metavar="N", help="shrink larger pictures to N pixels on the longer side"
    )
    add_overwrite_argument(parser)
    add_codec_arguments(parser)


def run(args: argparse.Namespace) -> int:
    names = args.codecs.split(",") if args.codecs else usable_codecs(given_folders(args.models))
    if not names:
        raise TaesdError("There is no codec to compare", "no weights were found", "Give --models, or --codecs")
    files = list(find_files(args.inputs, PICTURE_SUFFIXES, leave_out=args.output))
    targets = [args.output / name for name in (NUMBERS, SHEET, PAGE)]
    check_outputs(targets, overwrite=args.overwrite, sources=[path for path, _ in files])
    images, failed = _read_all(files, args.side)
    rows: dict[str, list[RoundTrip]] = {name: [] for name in images}
    for codec_name in names:
        # A codec at a time, so that no two large ones are in memory together.
        try:
            codec = load_from_arguments(args, codec_name.strip(), "decoder")
        except TaesdError as error:
            failed.append(str(error))
            continue
        for name, image in progress(images.items(), len(images), codec.title):
            rows[name].append(row := measure(codec, image, rows[name]))
            if row.error:
                failed.append(f"{codec.title} with {name}: {row.error}")
    made = [(name, image, rows[name]) for name, image in images.items()]
    if not any(row.image is not None for found in rows.values() for row in found):
        raise TaesdError("Nothing could be compared", failed[0])
    numbers = json.dumps(_numbers(made), indent=2) + "\n"
    contents = [numbers.encode(), comparison_sheet(made), comparison_page(made).encode()]
    for path, content in zip(targets, contents, strict=True):
        write_atomically(path, content)
    print(f"Wrote {args.output / PAGE}, {SHEET} and {NUMBERS}.", file=sys.stderr)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def usable_codecs(models: Iterable[Path | str] = ()) -> list[str]:
    """Codecs of which both halves are there, unopened: tiny ones, full-size ones, embedded ones."""
    folders = search_folders(list(models))
    files = installed(folders)
    tiny = [family for family in FAMILIES if len(files.get(family, ())) == len(PARTS)]
    full = [name for row in LATENT_FORMATS for name in installed_vaes(row, folders)]
    return list(dict.fromkeys([*tiny, *full, *embedded_names()]))


def _read_all(files: list[tuple[Path, Path]], side: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """(name -> image, what could not be read) of (file, its short name); names are unlike."""
    images: dict[str, Tensor] = {}
    failed: list[str] = []
    for path, relative in files:
        try:
            image = read_picture(path)
        except TaesdError as error:
            failed.append(str(error))
            continue
        name = _shown(relative)
        images[name if name not in images else _shown(path)] = _scaled_down(image, side)
    if not images:
        raise TaesdError("There is no picture to compare", failed[0] if failed else "nothing was found")
    return images, failed


def _shown(path: Path) -> str:
    """The name as a page can hold it: a byte of it that is no UTF-8 is shown by its code."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


def _scaled_down(image: Tensor, side: int | None) -> Tensor:
    longer = max(image.shape[-2:])
    if side is None or longer <= side:
        return image
    size = [max(1, round(length * side / longer)) for length in image.shape[-2:]]
    return functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)


def _numbers(made: Made) -> dict[str, Any]:
    pictures = [
        {"name": name, "width": image.shape[-1], "height": image.shape[-2], "codecs": [row.numbers() for row in rows]}
        for name, image, rows in made
    ]
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "pictures": pictures}
