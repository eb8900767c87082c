"""``compare``: pictures through every codec, with what each costs and what it loses."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.latent_image import latent_to_png, png_to_latent
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, read_picture
from taesd_ext.commands.codec_arguments import CodecChoice, add_codec_arguments, codec_choice
from taesd_ext.commands.compare_page import comparison_page, comparison_sheet
from taesd_ext.commands.jobs import find_files
from taesd_ext.commands.measuring import timed
from taesd_ext.commands.metrics import psnr, ssim
from taesd_ext.commands.number_arguments import at_least_one
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.commands.peak_memory import PeakMemory
from taesd_ext.commands.progress import progress
from taesd_ext.commands.result_row import ResultRow
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.folders import given_folders, search_folders
from taesd_ext.weights.installed import installed
from taesd_ext.weights.installed_vaes import find_named_vae
from taesd_ext.weights.vae_table import FULL_NAMES

PAGE, SHEET, NUMBERS = "compare.html", "compare.png", "compare.json"

_LONG = 5.0
"""Seconds after which a first run is not repeated to be timed warm."""


def measure(codec: Codec, image: Tensor) -> ResultRow:
    """One picture through one codec and back: what is left of it, and what it cost.

    Time is the better one of two runs, of which the first warms up the libraries, or of a single one that took long.
    Memory is the larger peak of encode and decode.
    """
    try:
        codec.begin_job()
        size = tuple(image.shape[-2:])
        latent, encode_seconds, encode_bytes = _costs(lambda: codec.encode(image), codec)
        decoded, decode_seconds, decode_bytes = _costs(lambda: codec.decode(latent, size=size), codec)
        png = latent_to_png(latent, note_for(latent, codec.family, codec.format, size))
        from_png = codec.decode(png_to_latent(png)[0], size=size)
        if codec.image_scale > 1:  # judged at the picture's own size
            decoded, from_png = (torch.nn.functional.avg_pool2d(one, codec.image_scale) for one in (decoded, from_png))
    except Exception as error:
        return ResultRow(codec.family, codec.format.name, error=one_line(error))
    return ResultRow(
        codec.family,
        codec.format.name,
        dtype=str(codec.dtype).removeprefix("torch."),
        device=str(codec.device),
        image=decoded,
        latent=latent,
        psnr=float(psnr(decoded, image)[0]),
        ssim=float(ssim(decoded, image)[0]),
        psnr_8bit=float(psnr(from_png, image)[0]),
        psnr_8bit_exact=float(psnr(from_png, decoded)[0]),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        peak_bytes=None if encode_bytes is None or decode_bytes is None else max(encode_bytes, decode_bytes),
        picture_bytes=image.numel(),
        latent_bytes=latent.numel() * 2,
        latent_png_bytes=len(png),
    )


def _costs(work: Callable[[], Tensor], codec: Codec) -> tuple[Tensor, float, int | None]:
    """(result, seconds, peak bytes)"""
    with PeakMemory(codec.device) as memory:
        first = timed(work, codec.device)
    seconds = first.wall if first.wall >= _LONG else min(first.wall, timed(work, codec.device).wall)
    return first.result, seconds, memory.bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="picture files, folders, or patterns")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help=f"folder for {PAGE}, {SHEET} and {NUMBERS}"
    )
    parser.add_argument(
        "--codecs", metavar="A,B,...",
        help=f"{', '.join(FAMILIES + FULL_NAMES)}, or weight files (all whose weights are there)",
    )  # fmt: skip
    parser.add_argument(
        "--side", type=at_least_one, metavar="N", help="scale larger pictures down to N pixels at their longer side"
    )
    add_overwrite_argument(parser)
    add_codec_arguments(parser)


def run(args: argparse.Namespace) -> int:
    choice = codec_choice(args)
    names = args.codecs.split(",") if args.codecs else usable_codecs(choice)
    if not names:
        raise TaesdError("There is no codec to compare", "no weights were found", "Give --models, or --codecs")
    files = list(find_files(args.inputs, PICTURE_SUFFIXES, leave_out=args.output))
    targets = [args.output / name for name in (NUMBERS, SHEET, PAGE)]
    check_outputs(targets, overwrite=args.overwrite, sources=[path for path, _ in files])
    images, failed = _read_all(files, args.side)
    rows: dict[str, list[ResultRow]] = {name: [] for name in images}
    for codec in _loaded(names, choice, failed):
        # A codec at a time, so that no two large ones are in memory together.
        for name, image in progress(images.items(), len(images), codec.family):
            row = measure(codec, image)
            rows[name].append(row)
            if row.error:
                failed.append(f"{codec.family} with {name}: {row.error}")
    made = [(name, image, rows[name]) for name, image in images.items()]
    if not any(row.image is not None for found in rows.values() for row in found):
        raise TaesdError("Nothing could be compared", failed[0] if failed else "", "See the lines above")
    numbers = json.dumps(_numbers(made), indent=2) + "\n"
    contents = [numbers.encode(), comparison_sheet(made), comparison_page(made).encode()]
    for path, content in zip(targets, contents, strict=True):
        write_atomically(path, content)
    print(f"Wrote {args.output / PAGE}, {SHEET} and {NUMBERS}.", file=sys.stderr)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def usable_codecs(choice: CodecChoice) -> list[str]:
    """Names of the codecs of which both halves are there, judged by names and headers of files."""
    models = list(choice.models) or None
    names = [family for family, parts in installed(search_folders(given_folders(models))).items() if len(parts) == 2]
    for name in FULL_NAMES:
        try:
            if len(find_named_vae(name, models).parts) == 2:
                names.append(name)
        except TaesdError:
            continue
    return names


def _loaded(names: Iterable[str], choice: CodecChoice, failed: list[str]) -> Iterator[Codec]:
    for name in names:
        try:
            yield choice.load(name.strip(), "decoder")
        except TaesdError as error:
            failed.append(str(error))


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
    return torch.nn.functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)


def _numbers(made: list[tuple[str, Tensor, list[ResultRow]]]) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "pictures": [
            {
                "name": name,
                "width": image.shape[-1],
                "height": image.shape[-2],
                "codecs": [row.numbers() for row in rows],
            }
            for name, image, rows in made
        ],
    }
