"""The doctor's look at the weight files: which there are, where they are looked for, and what is wrong with them."""

import os
from collections.abc import Iterable
from pathlib import Path

from taesd_ext.commands.weights import weights_listing
from taesd_ext.home import expanded
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.download import OFFLINE_VARIABLE, is_offline
from taesd_ext.weights.folders import MODELS_VARIABLE, cache_folder, named_in_environment
from taesd_ext.weights.identify import HASH_UP_TO, UNREADABLE, Identity


class Installation:
    """The weight files in the folders that are searched, those in ``models`` first."""

    def __init__(self, models: Iterable[Path | str]) -> None:
        self._named = {Path(folder): "was given" for folder in models}
        self._named |= {Path(folder): f"is named in {MODELS_VARIABLE}" for folder in named_in_environment()}
        self._listing = weights_listing(list(self._named), strays=True)
        folders = [*self._named, *self._listing.folders]
        numbers = {place: number for number, place in enumerate(dict.fromkeys(map(_place, folders)), 1)}
        self._searched = {place: f"<models {number}>" for place, number in numbers.items()}
        self.labels = {Path.cwd(): "<working folder>", **{folder: self._searched[_place(folder)] for folder in folders}}
        """Folder -> how a report calls it."""
        self.labels |= self._searched

    def sections(self) -> dict[str, list[str]]:
        files = [identity for identity in self._listing.files if identity.is_autoencoder or identity.error]
        used = self._listing.used
        return {
            "Families": [
                *(self._family_line(family) for family in FAMILIES if family in used),
                f"without files: {', '.join(family for family in FAMILIES if family not in used)}",
            ],
            "Files": [_file_line(identity) for identity in files] or ["none"],
            "Searched": [
                f"{label}: {'there' if place.is_dir() else 'not there'}" for place, label in self._searched.items()
            ] or ["no folder of weights exists"],
        }  # fmt: skip

    def problems(self) -> list[str]:
        problems = [identity.error for identity in self._listing.files if identity.state == UNREADABLE]
        problems += [
            f"{folder} {how} but is not a folder: correct it"
            for folder, how in self._named.items()
            if not expanded(folder).is_dir()
        ]
        cache = cache_folder()
        if not os.access(next(folder for folder in (cache, *cache.parents) if folder.exists()), os.W_OK):
            problems.append(f"{cache} cannot be written, where downloads go by default: use -o DIR")
        if is_offline():
            problems.append(f"{OFFLINE_VARIABLE} is set, so nothing can be downloaded: unset it if that is not meant")
        return problems

    def advice(self) -> list[str]:
        if self._listing.used:
            return []
        return ["no weights are installed; for previews in full detail: `python -m taesd_ext weights download taesd`"]

    def _family_line(self, family: str) -> str:
        parts = [f"{part} {path.name}" for part, path in self._listing.used[family].items()]
        return f"{family}: {', '.join([*parts, *(f'no {part}' for part in self._listing.lacking.get(family, []))])}"


def _place(folder: Path) -> Path:
    return Path(os.path.realpath(expanded(folder)))


def _file_line(identity: Identity) -> str:
    too_large = not identity.hashed and identity.size > HASH_UP_TO
    checked = ", checksum not computed (too large; `weights verify` does)" if too_large else ""
    return f"{identity.path}: {identity} ({identity.state}{checked}, {identity.size / 1e6:.1f} MB)"
