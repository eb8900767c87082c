"""``encode``: pictures to latents, one file or many."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from taesd_ext.codec.latent_file import LATENT_SUFFIXES, latent_bytes
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, read_picture
from taesd_ext.commands.batch import add_batch_arguments, run_jobs
from taesd_ext.commands.codec_arguments import CodecChoice, add_codec_arguments, codec_choice
from taesd_ext.commands.jobs import Job, plan_jobs
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.vae_table import FULL_NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="picture files, folders, or patterns")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="LATENT",
        help="a .png (8 bits) or .safetensors (exact) file, or a folder for several (beside each as NAME.latent.png)",
    )  # fmt: skip
    names = ", ".join(FAMILIES + FULL_NAMES)
    parser.add_argument("--family", default="taesd", help=f"{names}, or a weight file (taesd)")
    parser.add_argument(
        "--format", choices=[suffix[1:] for suffix in LATENT_SUFFIXES], default="png",
        help="what to write where --output names no file: png is 8 bits, safetensors is exact (png)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, metavar="N", help="draw the latent of a full VAE from its distribution instead of the mean"
    )
    add_codec_arguments(parser)
    add_batch_arguments(parser)


class EncodeWork:
    """Encodes one picture at a time; made once in each process."""

    def __init__(self, choice: CodecChoice, family: str, seed: int | None) -> None:
        self.codec = choice.load(family, "encoder")
        if seed is not None and not self.codec.can_sample:
            raise TaesdError(f"{family} cannot sample", "its latents are no distribution", "Leave --seed out")
        self._seed = seed

    def load(self, source: Path) -> Tensor:
        return read_picture(source)

    def make(self, image: Tensor, job: Job) -> bytes:
        self.codec.begin_job()  # an overflow in one picture must not change the next one's precision
        latent = self.codec.encode(image, sample=self._seed)
        note = note_for(latent, self.codec.family, self.codec.format, image.shape[-2:])
        return latent_bytes(job.target.suffix.lower(), latent, note)


def run(args: argparse.Namespace) -> int:
    jobs = plan_jobs(
        args.inputs,
        args.output,
        source_suffixes=PICTURE_SUFFIXES,
        target_suffixes=LATENT_SUFFIXES,
        made="latent",
        default_suffix=f".{args.format}",
        shard=args.shard,
    )
    made_with = codec_choice(args), args.family, args.seed
    return run_jobs(jobs, EncodeWork, made_with, args, title="encode").report("encoded")
