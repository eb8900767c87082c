"""The command-line arguments that say which codec to load and how."""

import argparse

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.commands.arguments import add_models_argument
from taesd_ext.commands.progress import waiting
from taesd_ext.errors import TaesdError, log_once
from taesd_ext.latent_formats import FAMILIES

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_argument(parser)
    parser.add_argument(
        "--dtype", choices=(*DTYPES, "auto"), default="fp32",
        help="precision to compute in; auto picks the best for the device (fp32)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (cpu)")
    parser.add_argument(
        "--variant", metavar="NAME", help="which VAE a weight file is, if it does not say: sdxl-vae, flux-vae, ..."
    )


def load_from_arguments(args: argparse.Namespace, family: str, part: str) -> Codec:
    """The codec of a family or weight file with this part, loaded as the arguments say. Raises TaesdError."""
    try:
        device = torch.device(args.device)
        torch.empty(1, device=device)
    except Exception as error:
        raise TaesdError(f"Cannot use the device {args.device}", str(error), "Use --device cpu, or cuda") from error
    dtype = DTYPES.get(args.dtype, "auto")
    with waiting(f"loading {family}"):
        codec = load_codec(family, models_dir=args.models or None, device=device, dtype=dtype, variant=args.variant)
    if not getattr(codec, f"has_{part}"):
        raise TaesdError(
            f"There is no {part} for {family}",
            f"no {codec.family}_{part} file was found",
            "`python -m taesd_ext weights list` shows the folders that are searched",
        )
    if part in codec.source.embedded and family in FAMILIES:
        log_once(
            f"embedded {part} of {family}",
            f"No file of {family} was found, so the embedded {part} is used. "
            f"`python -m taesd_ext weights download {family}` gets the real one.",
        )
    return codec
