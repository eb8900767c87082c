"""``doctor``: the text that a user pastes into a report, and what to do about what is wrong.

It names versions, the host, families and their files, the last errors and timings. It holds no prompt, and no place of
the user's own: folders of weights are numbered, and home folders are written as ~.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from taesd_ext import __version__
from taesd_ext.commands.needed_packages import NEEDED
from taesd_ext.commands.private_text import without_private
from taesd_ext.commands.switch_on import METHOD, TAESD, find_config, read_config, switch_on
from taesd_ext.commands.weights import Listing, weights_listing
from taesd_ext.errors import TaesdError, log, one_line
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.catalog import CATALOG, OfficialFile
from taesd_ext.weights.download import OFFLINE_VARIABLE, is_offline
from taesd_ext.weights.folders import MODELS_VARIABLE, cache_folder, named_in_environment
from taesd_ext.weights.identify import HASH_UP_TO, UNREADABLE, Identity

_OLDEST = {"torch": (2, 1), "gradio": (3, 41, 2), "numpy": (1, 23), "pillow": (9, 5), "safetensors": (0, 4)}
_WORKING_FOLDER = "<working folder>"
# Their names say which one it is, and nothing of the user.
_FOLDER_NAMES = ("VAE-taesd", "VAE-approx", "vae_approx")
_OPTIONAL = ("h5py", "onnx", "certifi")


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    text: str
    """For a report that anybody may read."""
    problems: tuple[str, ...]
    """Those in the text, each with its cure and the places that it is about: for the person who sits there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", action="append", default=[], metavar="DIR", help="a folder of weight files (may be repeated)"
    )
    parser.add_argument(
        "--fix", nargs="?", const="", metavar="WEBUI",
        help="have TAESD draw a WebUI's live previews: its folder or config.json (default: the one this lies in)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    if args.fix is not None:
        return _fix(Path(args.fix) if args.fix else None)
    # What is logged while it loads names places, and people copy the whole terminal; damaged files are found anyway.
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        timing = _time_a_preview(args.models)
    finally:
        log.setLevel(level)
    diagnosis = diagnose(args.models, timings=[timing], advice=_switch_on_advice())
    print(diagnosis.text)
    return 1 if diagnosis.problems else 0


def _fix(webui: Path | None) -> int:
    config = find_config(webui)
    if lines := switch_on(config):
        print("\n".join([f"{config}:", *(f"  {line}" for line in lines), "Restart the WebUI if it is running."]))
    else:
        print(f"{config}: nothing to change, TAESD draws the live previews.")
    return 0


def _switch_on_advice() -> list[str]:
    """What to do where this lies in a WebUI whose previews are by another method."""
    try:
        method = read_config(find_config()).get(METHOD, "another method")
    except TaesdError:
        return []
    if method == TAESD:
        return []
    return [f"the WebUI's live previews are by {method}: `python -m taesd_ext doctor --fix` switches to TAESD"]


def diagnose(
    models: Iterable[Path | str] = (),
    *,
    host: str = "none, run by itself",
    errors: Sequence[str] = (),
    timings: Sequence[str] = (),
    advice: Sequence[str] = (),
) -> Diagnosis:
    """Look at the installation. ``host``, ``errors``, ``timings`` and ``advice`` are what only the caller knows."""
    models = [_whole_path(folder) for folder in models]
    listing = weights_listing(models, strays=True)
    problems = [*_package_problems(), *_file_problems(listing), *_folder_problems(models)]
    folders = _known_folders(models, listing)
    labels = {folder: f"<models {number}>" for number, folder in enumerate(folders, 1)}
    sections = {
        "Versions": _versions(),
        "Host": [host],
        "Families": [_family_line(family, listing) for family in FAMILIES],
        "Files": [_file_line(identity) for identity in listing.files if identity.is_autoencoder or identity.error],
        "Searched": [f"{labels[folder]}: {words}" for folder, words in folders.items()]
        or ["no folder of weights exists"],
        "Last errors": list(errors) or ["none"],
        "Timings": list(timings) or ["none"],
        "To do": [*problems, *advice, *_weights_advice(listing)] or ["nothing: all is well"],
    }
    lines = [line for title, body in sections.items() for line in (f"{title}:", *(f"  {each}" for each in body))]
    # Files in a relative folder of the environment's are named relatively.
    labels |= {folder: labels[_whole_path(folder)] for folder in listing.folders if len(folder.parts) > 1}
    if Path.cwd() != Path.home():
        labels.setdefault(Path.cwd(), _WORKING_FOLDER)
    text = without_private("\n".join(lines), labels)
    return Diagnosis(text, tuple(without_private(problem) for problem in problems))


def _named_in_environment() -> list[Path]:
    return [_whole_path(part) for part in named_in_environment()]


def _whole_path(folder: Path | str) -> Path:
    return Path(os.path.normpath(Path(folder).expanduser().absolute()))


def _known_folders(models: Iterable[Path], listing: Listing) -> dict[Path, str]:
    """Every folder of weights, also those that are not there -> what it is, in words without its place."""
    folders = [*models, *_named_in_environment(), *map(_whole_path, listing.folders)]
    return {folder: _what_it_is(folder) for folder in folders}


def _what_it_is(folder: Path) -> str:
    if folder == _whole_path(cache_folder()):
        words = "the cache of downloads"
    elif folder.is_relative_to(Path.cwd()):
        words = f"{_WORKING_FOLDER}/{folder.relative_to(Path.cwd()).as_posix()}".removesuffix("/.")
    elif folder in _named_in_environment():
        words = f"named in {MODELS_VARIABLE}"
    else:
        words = f"{folder.name} of a WebUI" if folder.name in _FOLDER_NAMES else "given"
    return words if folder.is_dir() else f"{words}, not there"


def _versions() -> list[str]:
    lines = [f"taesd_ext {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    found = {name: _version(name) for name in (*NEEDED.values(), *_OPTIONAL)}
    lines.append(", ".join(f"{name} {version}" for name, version in found.items() if version))
    return [*lines, f"devices: {', '.join(_devices())}"]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _devices() -> list[str]:
    found = [f"cpu with {torch.get_num_threads()} threads"]
    try:
        if torch.cuda.is_available():
            found += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            found.append("mps")
    except Exception as error:
        found.append(one_line(error))
    return found


def _package_problems() -> list[str]:
    problems = []
    for name in NEEDED.values():
        version = _version(name)
        if not version:
            problems.append(f"{name} is missing: pip install {name}")
        elif name in _OLDEST and _numbers(version) < _OLDEST[name]:
            oldest = ".".join(map(str, _OLDEST[name]))
            problems.append(f"{name} {version} is older than {oldest}: update it, or the WebUI")
    return problems


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def _family_line(family: str, listing: Listing) -> str:
    used = listing.used.get(family, {})
    parts = [f"{part} {path.name}" for part, path in used.items()]
    missing = listing.lacking.get(family, [])
    return f"{family}: {', '.join([*parts, *(f'no {part}' for part in missing)])}"


def _file_line(identity: Identity) -> str:
    too_large = not identity.hashed and identity.size > HASH_UP_TO
    checked = ", checksum not computed (too large; `weights verify` does)" if too_large else ""
    return f"{identity.path}: {identity} ({identity.state}{checked}, {identity.size / 1e6:.1f} MB)"


def _file_problems(listing: Listing) -> list[str]:
    problems = [identity.error for identity in listing.files if identity.state == UNREADABLE]
    for identity in listing.files:
        newest = _newest(identity.official) if identity.official else None
        if newest:
            problems.append(
                f"{identity.path} is {identity.official}, and {newest.version} is out: "
                f"`python -m taesd_ext weights download {newest.family} -o {identity.path.parent}`"
            )
    return problems


def _weights_advice(listing: Listing) -> list[str]:
    if listing.used:
        return []
    return ["no weights are installed; for previews in full detail: `python -m taesd_ext weights download taesd`"]


def _newest(official: OfficialFile) -> OfficialFile | None:
    """The version that is offered for download, where it is a later one than this."""
    for row in CATALOG:
        same = (row.family, row.parts, row.kind) == (official.family, official.parts, official.kind)
        if same and row.sources and _numbers(row.version) > _numbers(official.version):
            return row
    return None


def _folder_problems(models: Iterable[Path]) -> list[str]:
    problems = [
        f"{folder} was given and is no folder, so it is not searched: correct it"
        for folder in models
        if not folder.is_dir()
    ]
    for part in named_in_environment():
        if not Path(part).expanduser().is_dir():
            problems.append(f"{MODELS_VARIABLE} names {part}, which is no folder: correct it")
    folder = cache_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        problems.append(f"{cache_folder()} cannot be written, where downloads go by default: use -o DIR")
    if is_offline():
        problems.append(f"{OFFLINE_VARIABLE} is set, so nothing can be downloaded: unset it if that is not meant")
    return problems


def _time_a_preview(models: Iterable[Path | str]) -> str:
    """One decode of 512x512 on the CPU, of the first family that is there."""
    from taesd_ext.codec.loading import load_codec

    folders = [folder for folder in models if Path(folder).expanduser().is_dir()]
    for family in FAMILIES:
        try:
            codec = load_codec(family, models_dir=folders)
            if not codec.has_decoder:
                continue
            side = 512 // codec.spatial_scale_factor
            latent = torch.zeros(1, codec.latent_channels, side, side)
            codec.decode(latent)
            began = time.perf_counter()
            codec.decode(latent)
            return f"{family}: {1000 * (time.perf_counter() - began):.0f} ms for 512x512 in full detail on the CPU"
        except TaesdError:
            continue
    return "no decoder to time"
