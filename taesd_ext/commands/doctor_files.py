"""The doctor's look at the weight files: which there are, where they are looked for, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from taesd_ext.codec.loading import load_codec
from taesd_ext.commands.packages import version_numbers
from taesd_ext.commands.quick_bench import quick_bench
from taesd_ext.commands.weights import Listing, weights_listing
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.catalog import CATALOG, OfficialFile
from taesd_ext.weights.download import OFFLINE_VARIABLE, is_offline
from taesd_ext.weights.folders import MODELS_VARIABLE, cache_folder, named_in_environment
from taesd_ext.weights.identify import HASH_UP_TO, UNREADABLE, Identity

_WORKING_FOLDER = "<working folder>"
# Their names say which one it is, and nothing of the user.
_FOLDER_NAMES = ("VAE-taesd", "VAE-approx", "vae_approx")


class Installation:
    """The weight files in the folders that are searched, those in ``models`` first."""

    def __init__(self, models: Iterable[Path | str]) -> None:
        self._models = [_whole_path(folder) for folder in models]
        self._environment = [_whole_path(part) for part in named_in_environment()]
        self.listing = weights_listing(self._models, strays=True)
        searched = [*self._models, *self._environment, *map(_whole_path, self.listing.folders)]
        self._numbered = {folder: f"<models {number}>" for number, folder in enumerate(dict.fromkeys(searched), 1)}
        # Files in a relative folder of the environment's are named relatively.
        relative = {folder: self._numbered[_whole_path(folder)] for folder in self.listing.folders if folder.parts[1:]}
        self.labels: dict[Path, str] = {**self._numbered, **relative}
        """Folder -> how a report calls it."""
        if Path.cwd() != Path.home():
            self.labels.setdefault(Path.cwd(), _WORKING_FOLDER)

    def sections(self) -> dict[str, list[str]]:
        files = [identity for identity in self.listing.files if identity.is_autoencoder or identity.error]
        return {
            "Families": [
                *(_family_line(family, self.listing) for family in FAMILIES if family in self.listing.used),
                f"without files: {', '.join(family for family in FAMILIES if family not in self.listing.used)}",
            ],
            "Files": [_file_line(identity) for identity in files] or ["none"],
            "Searched": [f"{label}: {self._describe(folder)}" for folder, label in self._numbered.items()]
            or ["no folder of weights exists"],
        }

    def problems(self) -> list[str]:
        problems = [identity.error for identity in self.listing.files if identity.state == UNREADABLE]
        problems += filter(None, map(_newer_version, self.listing.files))
        problems += [
            f"{folder} was given and is no folder, so it is not searched: correct it"
            for folder in self._models
            if not folder.is_dir()
        ]
        problems += [
            f"{MODELS_VARIABLE} names {part}, which is no folder: correct it"
            for part in named_in_environment()
            if not Path(part).expanduser().is_dir()
        ]
        cache = cache_folder()
        if not os.access(next(folder for folder in (cache, *cache.parents) if folder.exists()), os.W_OK):
            problems.append(f"{cache} cannot be written, where downloads go by default: use -o DIR")
        if is_offline():
            problems.append(f"{OFFLINE_VARIABLE} is set, so nothing can be downloaded: unset it if that is not meant")
        return problems

    def advice(self) -> list[str]:
        if self.listing.used:
            return []
        return ["no weights are installed; for previews in full detail: `python -m taesd_ext weights download taesd`"]

    def time_previews(self) -> str:
        """Previews of 512 px on the CPU, of the first family whose decoder is there."""
        for family in (family for family in FAMILIES if "decoder" in self.listing.used.get(family, {})):
            try:
                rows = list(quick_bench(load_codec(family, models_dir=self.listing.folders), (512,), runs=1))
            except TaesdError:
                continue
            return f"{family}: {', '.join(f'{row.milliseconds:.0f} ms at {row.detail}' for row in rows)} (512 px, CPU)"
        return "no decoder to time"

    def _describe(self, folder: Path) -> str:
        """What a folder is, in words without its place."""
        if folder == _whole_path(cache_folder()):
            words = "the cache of downloads"
        elif folder.is_relative_to(Path.cwd()):
            words = f"{_WORKING_FOLDER}/{folder.relative_to(Path.cwd()).as_posix()}".removesuffix("/.")
        elif folder in self._environment:
            words = f"named in {MODELS_VARIABLE}"
        else:
            words = f"{folder.name} of a WebUI" if folder.name in _FOLDER_NAMES else "given"
        return words if folder.is_dir() else f"{words}, not there"


def _whole_path(folder: Path | str) -> Path:
    return Path(os.path.normpath(Path(folder).expanduser().absolute()))


def _family_line(family: str, listing: Listing) -> str:
    parts = [f"{part} {path.name}" for part, path in listing.used.get(family, {}).items()]
    return f"{family}: {', '.join([*parts, *(f'no {part}' for part in listing.lacking.get(family, []))])}"


def _file_line(identity: Identity) -> str:
    too_large = not identity.hashed and identity.size > HASH_UP_TO
    checked = ", checksum not computed (too large; `weights verify` does)" if too_large else ""
    return f"{identity.path}: {identity} ({identity.state}{checked}, {identity.size / 1e6:.1f} MB)"


def _newer_version(identity: Identity) -> str:
    """That a later version than an official file's is offered for download; "" where none is."""
    own = identity.official
    newest = next((row for row in CATALOG if own and row.sources and _same_file(row, own)), None)
    if own is None or newest is None or version_numbers(newest.version) <= version_numbers(own.version):
        return ""
    return (
        f"{identity.path} is {own}, and {newest.version} is out: "
        f"`python -m taesd_ext weights download {newest.family} -o {identity.path.parent}`"
    )


def _same_file(one: OfficialFile, other: OfficialFile) -> bool:
    return (one.family, one.parts, one.kind) == (other.family, other.parts, other.kind)
