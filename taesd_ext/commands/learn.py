"""``learn``: make the shipped networks of taesd_ext/data, or a previewer or tiny decoder for another VAE.

Everything shipped (heads for reduced detail, embedded previewers and codecs) is trained on synthetic pictures and
latents, seeded, and measured on others that were held back.
"""

import argparse
import time
from pathlib import Path

import torch

from taesd_ext import __version__
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import save_embedded
from taesd_ext.codec.heads import save_heads
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.previewer import DATA, PREVIEWER_FORMATS, has_previewer, read_previewer, save_shipped
from taesd_ext.commands.arguments import at_least_one
from taesd_ext.commands.learn_vae import learn_vae
from taesd_ext.commands.learning_curve import learning_curve
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs
from taesd_ext.commands.progress import progress, run_with_progress
from taesd_ext.commands.quality import files_in, measure_quality
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.learning.descent import Log
from taesd_ext.learning.heads import fit_heads
from taesd_ext.learning.linear import fit_linear, row_text
from taesd_ext.learning.previewers import train_previewer
from taesd_ext.learning.small_codec import train_small_codec
from taesd_ext.models.fast import FastNetwork

HEAD_LESSONS = 128
HEAD_STEPS = 500
PREVIEWER_STEPS = 8000
PREVIEWER_LATENTS = 768
CODEC_STEPS = 2000
CODEC_PICTURES = 1000
LINEAR_PICTURES = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", action="append", choices=FAMILIES, help="may be repeated; default: every family")
    parser.add_argument(
        "-o", "--output", type=Path, default=DATA, metavar="DIR", help="where the files go; of --vae a file"
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of weight files")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--previewer", action="store_true", help="train the previewer that needs no decoder")
    kind.add_argument("--codec", action="store_true", help="train the embedded encoder and decoder")
    kind.add_argument("--linear", action="store_true", help="fit the row of the linear preview (data/latent_rgb.json)")
    kind.add_argument(
        "--measure",
        type=Path,
        metavar="FOLDER",
        help="make nothing; measure every preview on a folder's stored latents (.safetensors), or else its pictures",
    )
    kind.add_argument(
        "--measure-learning",
        type=Path,
        metavar="FOLDER",
        help="make nothing; measure what is learnt from 1 to 16 crops of a folder's pictures, on others",
    )
    kind.add_argument(
        "--vae", metavar="FILE", help="make a previewer for a VAE: a weight file, a diffusers folder, or a known name"
    )
    parser.add_argument("--tiny", choices=FAMILIES, help="of --vae, make a tiny decoder that begins as this family's")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="of --vae, learn from these, not synthetic ones")
    parser.add_argument("--exam", type=Path, metavar="DIR", help="of --tiny, measure the result on these pictures")
    parser.add_argument("--turned", action="store_true", help="of --vae, turn its latents at random, as if unknown")
    parser.add_argument("--variant", metavar="NAME", help="of --vae, what it is if it does not tell itself")
    parser.add_argument("--device", default="cpu", help="of --vae, cpu, cuda, ... (cpu)")
    parser.add_argument(
        "--steps", type=int,
        help=f"training steps (default {HEAD_STEPS} a head, {PREVIEWER_STEPS} a previewer, {CODEC_STEPS} a codec)",
    )  # fmt: skip
    parser.add_argument(
        "--latents", type=at_least_one,
        help=f"latents to learn from (default {HEAD_LESSONS}, previewers {PREVIEWER_LATENTS}, codecs {CODEC_PICTURES})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=at_least_one, default=1, help="(1, which gives the same result each time)")
    add_overwrite_argument(parser)


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    if args.vae:
        learn_vae(args)
        return 0
    families = args.family or FAMILIES
    if folder := args.measure or args.measure_learning:
        make = _measure if args.measure else _measure_learning
        files_in(folder)
    else:
        make = next((make for kind, make in _MAKERS.items() if getattr(args, kind)), _make_heads)
        targets = [_target(family, args) for family in families]
        made = targets if not args.linear else []
        check_outputs([*made, *(path.with_suffix(".log") for path in targets)], overwrite=args.overwrite)
    failed = 0
    for family in families:
        try:
            codec = load_codec(family, models_dir=args.models, embedded=False)
            make(codec, args)
        except TaesdError as error:
            print(f"{family}: {error}")
            failed += 1
    return 1 if failed else 0


def _target(family: str, args: argparse.Namespace) -> Path:
    """What is made of a family; a log of the same name lies beside it, and is all that --linear writes."""
    for kind in ("previewer", "codec"):
        if getattr(args, kind):
            return args.output / f"{kind}_{native_format(family).name}.safetensors"
    return args.output / (f"linear_{family}" if args.linear else f"heads_{family}.safetensors")


def _make_heads(codec: Codec, args: argparse.Namespace) -> None:
    if codec.heads is None:
        raise TaesdError("no heads were made", "they need a tiny decoder")
    steps, lessons, path, log = _begin(codec, args, HEAD_STEPS, HEAD_LESSONS)
    started = time.process_time()
    # The decoder teaches in bfloat16: 48 dB, where a head has 35.
    decoder = FastNetwork(codec.decoder).to(torch.bfloat16)
    encoder = FastNetwork(codec.encoder).to(torch.bfloat16) if codec.has_encoder else None
    work = fit_heads(decoder, encoder, lessons=lessons, steps=steps, seed=args.seed)
    results = run_with_progress(work, path.stem)
    for scale, result in results.items():
        log(
            f"1/{scale}: held back {result.mean:.2f} dB (worst {result.worst:.2f}), {len(result.head.hidden)} hidden "
            f"layers; linear read-out {result.linear[0]:.2f} dB (worst {result.linear[1]:.2f})"
        )
    log(f"{time.process_time() - started:.0f} CPU s")
    heads = {scale: result.head for scale, result in results.items()}
    save_heads(heads, path, FastNetwork(codec.decoder), codec.family)
    log(f"wrote {path.name}, {path.stat().st_size:,} bytes")


def _make_previewer(codec: Codec, args: argparse.Namespace) -> None:
    name = native_format(codec.family).name
    if name not in PREVIEWER_FORMATS or not (codec.has_encoder and codec.has_decoder):
        raise TaesdError("no previewer was made", "it needs an 8x family's encoder and decoder")
    steps, latents, path, log = _begin(codec, args, PREVIEWER_STEPS, PREVIEWER_LATENTS)
    network = train_previewer(codec, steps=steps, latents=latents, seed=args.seed, log=log, progress=progress)
    save_shipped(network.state_dict(), path, "previewer", name)
    log(f"wrote {path.name}, {path.stat().st_size:,} bytes")


def _make_codec(codec: Codec, args: argparse.Namespace) -> None:
    name = codec.format.name
    if not (has_previewer(name) and codec.has_encoder and codec.has_decoder):
        raise TaesdError("no codec was made", "it needs an 8x family's encoder and decoder, and its previewer")
    steps, pictures, path, log = _begin(codec, args, CODEC_STEPS, CODEC_PICTURES)
    how = {"steps": steps, "pictures": pictures, "seed": args.seed, "log": log, "progress": progress}
    save_embedded(*train_small_codec(codec, read_previewer(name), **how), path, name)
    log(f"wrote {path.name}, {path.stat().st_size:,} bytes")


def _make_linear(codec: Codec, args: argparse.Namespace) -> None:
    _, pictures, _, log = _begin(codec, args, 0, LINEAR_PICTURES)
    factors, bias, psnr = fit_linear(codec, progress, pictures=pictures, seed=args.seed)
    log(f"{row_text(factors, bias)}\nheld back {psnr:.2f} dB at 1/{codec.spatial_scale_factor} of the size")


_MAKERS = {"previewer": _make_previewer, "codec": _make_codec, "linear": _make_linear}
"""Argument -> what it asks for; heads without any."""


def _measure(codec: Codec, args: argparse.Namespace) -> None:
    if not (codec.has_encoder and codec.has_decoder):
        raise TaesdError("nothing was measured", "it needs an encoder and a decoder")
    measure_quality(codec, args.measure, [args.models] if args.models else [])


def _measure_learning(codec: Codec, args: argparse.Namespace) -> None:
    print(f"{codec.family}, taken as unknown:")
    for line in learning_curve(codec, args.measure_learning, args.steps or 0):
        print(f"  {line}", flush=True)


def _begin(codec: Codec, args: argparse.Namespace, steps: int, lessons: int) -> tuple[int, int, Path, Log]:
    """Steps, lessons, the file to make, and its log, which prints each line and keeps it beside the file."""
    steps, lessons = steps if args.steps is None else args.steps, args.latents or lessons
    path = _target(codec.family, args)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.with_suffix(".log")
    kept.write_text("", encoding="utf-8")

    def log(line: str) -> None:
        print(line, flush=True)
        with kept.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    asked = f"seed {args.seed}, {steps} steps, {lessons} latents"
    log(f"{path.stem}: taesd_ext {__version__}, torch {torch.__version__}, {asked}")
    return steps, lessons, path, log
