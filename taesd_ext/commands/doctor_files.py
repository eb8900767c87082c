"""The doctor's look at the weight files: which there are, where they are looked for, and what is wrong with them."""

import os
from collections.abc import Iterable
from pathlib import Path

from taesd_ext.home import expanded
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.weights.download import OFFLINE_VARIABLE, is_offline
from taesd_ext.weights.folders import MODELS_VARIABLE, cache_folder, named_in_environment, search_folders
from taesd_ext.weights.identify import HASH_UP_TO, UNREADABLE, Identity
from taesd_ext.weights.installed import installed
from taesd_ext.weights.store import list_weights
from taesd_ext.weights.tiny_file import PARTS


class Installation:
    """The weight files in the folders that are searched, those in ``models`` first."""

    def __init__(self, models: Iterable[Path | str]) -> None:
        self._named = {Path(folder): "was given" for folder in models}
        self._named |= {Path(folder): f"is named in {MODELS_VARIABLE}" for folder in named_in_environment()}
        searched = search_folders(self._named)
        self._files = list_weights(searched, strays=True)
        self._used = installed(searched)
        folders = [*self._named, *searched]
        numbers = {place: number for number, place in enumerate(dict.fromkeys(map(_place, folders)), 1)}
        self._searched = {place: f"<models {number}>" for place, number in numbers.items()}
        self.labels = {Path.cwd(): "<working folder>", **{folder: self._searched[_place(folder)] for folder in folders}}
        """Folder -> how a report calls it."""
        self.labels |= self._searched

    def sections(self) -> dict[str, list[str]]:
        files = [identity for identity in self._files if identity.is_autoencoder or identity.error]
        lacking = [family for family in FAMILIES if family not in self._used]
        families = [self._family_line(family) for family in FAMILIES if family in self._used]
        return {
            "Families": [*families, f"without files: {', '.join(lacking) or 'none'}"],
            "Files": [_file_line(identity) for identity in files] or ["none"],
            "Searched": [
                f"{label}: {'there' if place.is_dir() else 'not there'}" for place, label in self._searched.items()
            ] or ["no folder of weights exists"],
        }  # fmt: skip

    def problems(self) -> list[str]:
        problems = [identity.error for identity in self._files if identity.state == UNREADABLE]
        problems += [
            f"{folder} {how} but is not a folder: correct the path"
            for folder, how in self._named.items()
            if not expanded(folder).is_dir()
        ]
        cache = cache_folder()
        if not os.access(next(folder for folder in (cache, *cache.parents) if folder.exists()), os.W_OK):
            problems.append(f"{cache}, where downloads go by default, is not writable: use -o DIR")
        if is_offline():
            problems.append(f"{OFFLINE_VARIABLE} is set, which forbids downloads: unset it unless that is intended")
        return problems

    def advice(self) -> list[str]:
        if self._used:
            return []
        return ["no weights are installed; for full detail: `python -m taesd_ext weights download taesd`"]

    def _family_line(self, family: str) -> str:
        found = self._used[family]
        lacking = [f"no {part}" for part in PARTS if part not in found]
        return f"{family}: {', '.join([*(f'{part} {path.name}' for part, path in found.items()), *lacking])}"


def _place(folder: Path) -> Path:
    return Path(os.path.realpath(expanded(folder)))


def _file_line(identity: Identity) -> str:
    too_large = not identity.hashed and identity.size > HASH_UP_TO
    checked = ", checksum not computed (too large; `weights verify` does)" if too_large else ""
    return f"{identity.path}: {identity} ({identity.state}{checked}, {identity.size / 1e6:.1f} MB)"
