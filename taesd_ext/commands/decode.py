"""``decode``: stored latents to pictures, one file or many."""

import argparse
from pathlib import Path

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.latent_file import LATENT_SUFFIXES, read_latent
from taesd_ext.codec.latent_note import LatentNote
from taesd_ext.codec.picture_file import WRITABLE_SUFFIXES, image_bytes
from taesd_ext.commands.batch import add_batch_arguments, run_batch
from taesd_ext.commands.codec_arguments import load_from_arguments
from taesd_ext.commands.jobs import Job
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.vae_table import FULL_NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="LATENT", help="files that encode wrote, folders, or patterns")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="IMAGE",
        help=f"a {', '.join(WRITABLE_SUFFIXES)} file, or a folder for several (beside each file, as NAME.decoded.png)",
    )  # fmt: skip
    names = ", ".join(FAMILIES + FULL_NAMES)
    parser.add_argument(
        "--family",
        help=f"decode with this codec instead of the one the file names: {names}, or a weight file. "
        "Required for TAESD's own latent pictures, which name none",
    )
    parser.add_argument(
        "--format", choices=[suffix[1:] for suffix in WRITABLE_SUFFIXES], default="png",
        help="file type where --output is not a file (png)",
    )  # fmt: skip
    add_batch_arguments(parser)


class DecodeWork:
    """Decodes one latent at a time by the codec that its file names; made once in each process."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._codecs: dict[str, Codec] = {}
        self._given = self._codec(args.family) if args.family else None

    def load(self, source: Path) -> tuple[Tensor, LatentNote]:
        return read_latent(source, self._given.family if self._given else None)

    def make(self, loaded: tuple[Tensor, LatentNote], job: Job) -> bytes:
        latent, note = loaded
        codec = self._given or self._codec(_known(note.family))
        if codec.format.name != note.format:
            raise TaesdError(
                f"{codec.family} cannot decode {job.source}",
                f"it holds {note.format} latents, not {codec.format.name}",
                "Omit --family, or give the right one",
            )
        codec.begin_job()  # an overflow in one latent must not change the next one's precision
        return image_bytes(job.target.suffix.lower(), codec.decode(latent, size=note.size))

    def _codec(self, family: str) -> Codec:
        if family not in self._codecs:
            self._codecs[family] = load_from_arguments(self._args, family, "decoder")
        return self._codecs[family]


def _known(family: str) -> str:
    """A file's own word for its codec must be a name: as a path it could make us open any file."""
    if family not in FAMILIES + FULL_NAMES:
        raise TaesdError(f"The file names an unknown codec {family[:40]!r}", "", "Say which to use with --family")
    return family


def run(args: argparse.Namespace) -> int:
    return run_batch(args, DecodeWork, LATENT_SUFFIXES, WRITABLE_SUFFIXES, made="decoded")
