"""``encode``: pictures to latents, one file or many."""

import argparse
from pathlib import Path

from torch import Tensor

from taesd_ext.codec.latent_file import LATENT_SUFFIXES, latent_bytes
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, read_picture
from taesd_ext.commands.batch import add_batch_arguments, run_batch
from taesd_ext.commands.codec_arguments import load_from_arguments
from taesd_ext.commands.jobs import Job
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
        help="file type where --output is not a file: png is 8 bits, safetensors is exact (png)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, metavar="N", help="sample a full VAE's latent with this seed instead of taking the mean"
    )
    add_batch_arguments(parser)


class EncodeWork:
    """Encodes one picture at a time; made once in each process."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.codec = load_from_arguments(args, args.family, "encoder")
        self._seed = args.seed
        if self._seed is not None and not self.codec.can_sample:
            raise TaesdError(f"{args.family} cannot sample", "its encoder gives no distribution", "Omit --seed")

    def load(self, source: Path) -> Tensor:
        return read_picture(source)

    def make(self, image: Tensor, job: Job) -> bytes:
        self.codec.begin_job()  # an overflow in one picture must not change the next one's precision
        latent = self.codec.encode(image, sample=self._seed)
        note = note_for(latent, self.codec.family, self.codec.format, image.shape[-2:])
        return latent_bytes(job.target.suffix.lower(), latent, note)


def run(args: argparse.Namespace) -> int:
    return run_batch(args, EncodeWork, PICTURE_SUFFIXES, LATENT_SUFFIXES, made="latent")
