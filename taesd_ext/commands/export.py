"""``export``: a tiny autoencoder written for other programs, as safetensors, Keras or ONNX."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from taesd_ext.commands.codec_arguments import DTYPES
from taesd_ext.commands.export_keras import keras_bytes
from taesd_ext.commands.export_onnx import onnx_bytes
from taesd_ext.commands.export_safetensors import CONFIG_NAME, WEIGHTS_NAME, diffusers_files, original_bytes
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs, write_atomically
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.models.tiny import TinyNetwork
from taesd_ext.weights.folders import diffusers_files as files_in_diffusers_folder
from taesd_ext.weights.folders import given_folders, search_folders
from taesd_ext.weights.identify import identify
from taesd_ext.weights.installed import find_part
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.tiny_file import PARTS, TinyPart, find_tiny_parts

SUFFIXES = {"safetensors": ".safetensors", "keras": ".keras", "onnx": ".onnx"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", default="taesd", help=f"{', '.join(FAMILIES)}, or a weight file (taesd)")
    parser.add_argument("--part", choices=(*PARTS, "both"), default="both", help="which half to write (both)")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="safetensors", help="(safetensors)")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="PATH",
        help="a file, or a folder: both parts go to FAMILY_encoder and FAMILY_decoder there",
    )  # fmt: skip
    parser.add_argument(
        "--layout", choices=("original", "diffusers"), default="original",
        help="safetensors: the original's keys, or a folder for diffusers' AutoencoderTiny (original)",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="precision of the weights (fp32)")
    parser.add_argument(
        "--size", type=parse_size, metavar="WxH", help="keras: one picture size, in pixels, instead of any"
    )
    parser.add_argument(
        "--models", action="append", default=[], metavar="DIR", help="a folder of weight files (may be repeated)"
    )
    add_overwrite_argument(parser)


def parse_size(text: str) -> tuple[int, int]:
    """ "640x480" -> (480, 640), rows first as everywhere here"""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512x512")
    return int(height), int(width)


def run(args: argparse.Namespace) -> int:
    parts = find_parts(args.family, PARTS if args.part == "both" else (args.part,), args.models)
    family = args.family if args.family in FAMILIES else _family_of(parts)
    targets = _targets(args, family, tuple(parts))
    check_outputs(targets, overwrite=args.overwrite, sources=[found.file.path for found in parts.values()])
    networks = {name: found.build().to(DTYPES[args.dtype]) for name, found in parts.items()}
    contents = _contents(args, family, parts, networks, together=len(targets) == 1)
    for path, content in zip(targets, contents, strict=True):
        write_atomically(path, content)
        print(f"Wrote {path} ({len(content) / 1e6:.1f} MB).", file=sys.stderr)
    return 0


def find_parts(family_or_path: str, wanted: tuple[str, ...], models: list[str]) -> dict[str, TinyPart]:
    """The wanted parts of a family or a weight file; a missing one is a TaesdError."""
    path = Path(family_or_path).expanduser()
    if family_or_path in FAMILIES:
        folders = search_folders(given_folders(models))
        found = {part: find_part(family_or_path, part, folders) for part in wanted}
        looked = f"looked in: {', '.join(map(str, folders)) or 'no folder of weights exists'}"
    elif path.exists():
        file = next(iter(files_in_diffusers_folder(path)), path)
        parts = find_tiny_parts(open_tensor_file(file))
        found = {part: parts.get(part) for part in wanted}
        looked = f"{file} holds {' and '.join(parts) or 'no tiny autoencoder'}"
    else:
        raise TaesdError(f"{family_or_path} does not exist", "", f"The families are {', '.join(FAMILIES)}")
    if missing := [part for part, value in found.items() if value is None]:
        raise TaesdError(
            f"There is no {' and no '.join(missing)} for {family_or_path}", looked,
            "Choose --part, or `python -m taesd_ext weights` to get it",
        )  # fmt: skip
    return {part: value for part, value in found.items() if value}


def _family_of(parts: dict[str, TinyPart]) -> str:
    """What a weight file is of, as it is told elsewhere; of one that nothing tells, its own name."""
    path = next(iter(parts.values())).file.path
    return identify(path).family or path.stem.split("_")[0]


def _targets(args: argparse.Namespace, family: str, parts: tuple[str, ...]) -> list[Path]:
    """The files to write: one for each of :func:`_contents`."""
    output: Path = args.output
    if _is_diffusers(args):
        if output.suffix:
            raise TaesdError(f"{output} is no folder", "the diffusers layout is one", "Leave out the suffix")
        return [output / CONFIG_NAME, output / WEIGHTS_NAME]
    suffix = SUFFIXES[args.format]
    if not output.suffix or output.is_dir():
        return [output / f"{family}_{part}{suffix}" for part in parts]
    if output.suffix.lower() != suffix:
        raise TaesdError(f"{output} is no name for {args.format}", "", f"Use {output.with_suffix(suffix).name}")
    if args.format != "safetensors" and len(parts) > 1:
        raise TaesdError(
            f"{output} would hold two networks", f"a {suffix} file holds one", "Give a folder, or choose --part"
        )
    return [output]


def _contents(
    args: argparse.Namespace, family: str, parts: dict[str, TinyPart], networks: dict[str, TinyNetwork], *,
    together: bool,
) -> list[bytes]:  # fmt: skip
    """What to write into each of :func:`_targets`; ``together``: all networks into one file."""
    notes = {"family": family, "made_by": "taesd_ext", "license": "MIT"}
    if _is_diffusers(args):
        made = diffusers_files(networks)
        return [made[CONFIG_NAME], made[WEIGHTS_NAME]]
    if args.format == "safetensors":
        files = [networks] if together else [{part: network} for part, network in networks.items()]
        return [original_bytes(file, family, notes) for file in files]
    if args.format == "onnx":
        return [onnx_bytes(network, part, notes) for part, network in networks.items()]
    return [_keras(network, part, parts[part], family, args.size) for part, network in networks.items()]


def _is_diffusers(args: argparse.Namespace) -> bool:
    return args.format == "safetensors" and args.layout == "diffusers"


def _keras(network: TinyNetwork, part: str, found: TinyPart, family: str, size: tuple[int, int] | None) -> bytes:
    factor = found.network.spatial_scale_factor
    if size and (size[0] % factor or size[1] % factor):
        raise TaesdError(f"{size[1]}x{size[0]} is no multiple of {factor}", "", "Give a size that is")
    if part == "encoder":
        return keras_bytes(network, f"{family}_{part}", 3, size)
    latent_size = (size[0] // factor, size[1] // factor) if size else None
    return keras_bytes(network, f"{family}_{part}", found.network.latent_channels, latent_size)
