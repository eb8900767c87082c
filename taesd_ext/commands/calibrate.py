"""calibrate: make what is shipped in taesd_ext/data: heads for reduced detail, embedded previewers.

Everything is learnt from generated pictures and latents, seeded, and measured on others that were held back.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from taesd_ext import __version__
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.previewer import PREVIEWER_FORMATS, save_previewer
from taesd_ext.commands.previewer_training import train_previewer
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, native_format

DEFAULT_STEPS = 8000
DEFAULT_LATENTS = 768


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", action="append", choices=FAMILIES, help="may be repeated; default: every family")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of weight files")
    parser.add_argument("--previewer", action="store_true", help="train the previewer that needs no decoder")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="training steps (default %(default)s)")
    parser.add_argument(
        "--latents", type=int, default=DEFAULT_LATENTS, help="latents to train on (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="1, the default, gives the same result each time")


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for family in args.family or FAMILIES:
        try:
            codec = load_codec(family, models_dir=args.models)
            _make_previewer(codec, args)
        except TaesdError as error:
            print(f"{family}: {error}")
            failed += 1
    return 1 if failed else 0


def _make_previewer(codec: Codec, args: argparse.Namespace) -> None:
    name = native_format(codec.family).name
    if name not in PREVIEWER_FORMATS or not (codec.has_encoder and codec.has_decoder):
        raise TaesdError("no previewer was made", "it takes an 8x family's encoder and decoder")
    log = _open_log(
        args.output / f"previewer_{name}.log",
        f"previewer for {name}: taesd_ext {__version__}, torch {torch.__version__}, "
        f"seed {args.seed}, {args.steps} steps, {args.latents} latents",
    )
    network = train_previewer(codec, steps=args.steps, latents=args.latents, seed=args.seed, log=log)
    path = args.output / f"previewer_{name}.safetensors"
    save_previewer(network, name, path)
    log(f"wrote {path.name}, {path.stat().st_size:,} bytes")


def _open_log(path: Path, head: str) -> Callable[[str], None]:
    """Print each line and keep it beside the file that it is about."""
    path.write_text("", encoding="utf-8")

    def log(line: str) -> None:
        print(line, flush=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    log(head)
    return log
