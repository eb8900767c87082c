"""The command-line arguments that say which codec to load and how."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.errors import TaesdError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class CodecChoice:
    """How to load codecs; small, and can be sent to another process."""

    models: tuple[str, ...] = ()
    dtype: str = "fp32"
    device: str = "cpu"
    variant: str | None = None

    def load(self, family: str, part: str) -> Codec:
        """The codec of a family or weight file, which has this part. Raises TaesdError."""
        models = [Path(folder) for folder in self.models] or None
        try:
            device = torch.device(self.device)
            torch.empty(1, device=device)
        except Exception as error:
            raise TaesdError(f"Cannot use the device {self.device}", str(error), "Use --device cpu, or cuda") from error
        codec = load_codec(
            family, models_dir=models, device=device, dtype=DTYPES.get(self.dtype, "auto"), variant=self.variant
        )
        if not getattr(codec, f"has_{part}"):
            raise TaesdError(
                f"There is no {part} for {family}",
                f"no {codec.family}_{part} file was found",
                "`python -m taesd_ext weights list` says where files are looked for",
            )
        return codec


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", action="append", default=[], metavar="DIR", help="a folder of weight files (may be repeated)"
    )
    parser.add_argument(
        "--dtype",
        choices=(*DTYPES, "auto"),
        default="fp32",
        help="precision to compute in; auto is what the device does best (fp32)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (cpu)")
    parser.add_argument(
        "--variant", metavar="NAME", help="what a weight file is that does not tell itself: sdxl-vae, flux-vae, ..."
    )


def codec_choice(args: argparse.Namespace) -> CodecChoice:
    return CodecChoice(tuple(args.models), args.dtype, args.device, args.variant)
