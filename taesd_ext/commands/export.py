"""``export``: a tiny autoencoder written for other programs, as safetensors, Keras or ONNX."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from taesd_ext.codec.loading import load_codec
from taesd_ext.commands.arguments import add_models_argument, picture_size
from taesd_ext.commands.codec_arguments import DTYPES
from taesd_ext.commands.export_keras import keras_bytes
from taesd_ext.commands.export_onnx import onnx_bytes
from taesd_ext.commands.export_safetensors import CONFIG_NAME, WEIGHTS_NAME, diffusers_file, original_bytes
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.commands.progress import progress
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.models.tiny import TinyNetwork
from taesd_ext.weights.identify import identify
from taesd_ext.weights.tiny_file import PARTS

SUFFIXES = {"safetensors": ".safetensors", "keras": ".keras", "onnx": ".onnx"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", default="taesd", help=f"{', '.join(FAMILIES)}, or a weight file (taesd)")
    parser.add_argument("--part", choices=(*PARTS, "both"), default="both", help="which part to write (both)")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="safetensors", help="(safetensors)")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="PATH",
        help="a file, or a folder for FAMILY_encoder and FAMILY_decoder",
    )  # fmt: skip
    parser.add_argument(
        "--layout", choices=("original", "diffusers"), default="original",
        help="safetensors: original keys, or a folder for diffusers' AutoencoderTiny (original)",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="precision of the weights (fp32)")
    parser.add_argument(
        "--size", type=picture_size, metavar="WxH", help="keras: a fixed picture size in pixels (default: any)"
    )
    add_models_argument(parser)
    add_overwrite_argument(parser)


def run(args: argparse.Namespace) -> int:
    parts = PARTS if args.part == "both" else (args.part,)
    codec = load_codec(args.family, models_dir=args.models or None, embedded=False)
    networks = {part: getattr(codec, part) for part in parts}
    for part, network in networks.items():
        if not isinstance(network, TinyNetwork):
            raise TaesdError(
                f"There is no tiny {part} for {args.family}",
                "no file of it was found" if network is None else f"{codec.name} is a full-size VAE",
                "Choose --part, or add the file: `python -m taesd_ext weights list` shows where",
            )
    sources = [getattr(codec.source, part) for part in parts]
    # A file that nothing tells keeps its own name: a guess must not be written down as a fact.
    own_name = identify(sources[0]).family or sources[0].stem.split("_")[0]
    files = _plan(args, args.family if args.family in FAMILIES else own_name, networks)
    check_outputs(files, overwrite=args.overwrite, sources=sources)
    for network in networks.values():
        network.to(DTYPES[args.dtype])
    contents = {path: make() for path, make in progress(files.items(), len(files), "export")}
    for path, content in contents.items():
        write_atomically(path, content)
        print(f"Wrote {path} ({len(content) / 1e6:.1f} MB).", file=sys.stderr)
    return 0


def _plan(args: argparse.Namespace, family: str, networks: dict[str, TinyNetwork]) -> dict[Path, Callable[[], bytes]]:
    """Each file to write, and what makes its content. Raises TaesdError where the output does not fit the format."""
    output, suffix = args.output, SUFFIXES[args.format]
    notes = {"family": family, "made_by": "taesd_ext", "license": "MIT"}
    if args.format == "safetensors" and args.layout == "diffusers":
        if output.suffix:
            raise TaesdError(f"{output} is not a folder", "the diffusers layout needs one", "Leave out the suffix")
        return {output / name: partial(diffusers_file, networks, name) for name in (CONFIG_NAME, WEIGHTS_NAME)}

    def make(*chosen: TinyNetwork) -> bytes:
        if args.format == "safetensors":
            return original_bytes(chosen, family, notes)
        (network,) = chosen
        if args.format == "onnx":
            return onnx_bytes(network, notes)
        return keras_bytes(network, f"{family}_{network.part}", args.size)

    if not output.suffix or output.is_dir():
        return {output / f"{family}_{part}{suffix}": partial(make, network) for part, network in networks.items()}
    if output.suffix.lower() != suffix:
        raise TaesdError(f"{output} does not end in {suffix}", "", f"Use {output.with_suffix(suffix).name}")
    if args.format != "safetensors" and len(networks) > 1:
        raise TaesdError(
            f"{output} would hold two networks", f"a {suffix} file holds one", "Give a folder, or choose --part"
        )
    return {output: partial(make, *networks.values())}
