"""The full-size SD VAEs that a person can choose from by name, and the file behind a name."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.weights.autoencoder_kl_files import find_prefix
from taesd_ext.weights.folders import search_folders
from taesd_ext.weights.full_files import FullVAE, find_full_vae, find_named_vae, vae_candidates
from taesd_ext.weights.listing import Listing, listing
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.vae_rows import DIFFUSERS_STEM, KL_KINDS, NAMED_VAES, VAE_BY_NAME

_HASH = re.compile(r" \([0-9a-f]{10}\)$")
_MOST_FOLDERS = 200

_recognised: dict[Path, tuple[tuple[Listing, ...], tuple[Path, ...]]] = {}
_recognised_lock = threading.Lock()


def installed_vaes_by_name(vae_folders: Iterable[Path], other_folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Name -> file: the VAEs that have a name of their own, then those known by their file's name.

    The named ones are looked for in all search folders, unopened; every file in ``vae_folders`` and the folders in them
    whose header is that of an SD VAE is one of the others. Folders and headers are read once.
    """
    vae_folders = _with_subfolders(vae_folders)
    searched = search_folders([*vae_folders, *other_folders])
    found: dict[str, Path] = {}
    named: set[Path] = set()
    for row in NAMED_VAES:
        paths = list(vae_candidates(row.name, searched))
        named.update(paths)
        if paths:
            found[row.name] = paths[0]
    for path in (path for folder in vae_folders for path in _sd_vaes(folder)):
        if path in named:
            continue
        title = file_title(path)
        if title in found and found[title].parent != path.parent:
            title = f"{path.parent.name}/{title}"
        found.setdefault(title, path)
    return found


def find_installed_vae(
    name: str, vae_folders: Iterable[Path], other_folders: Iterable[Path] = (), fitting: LatentFormat | None = None
) -> FullVAE:
    """The VAE that a person chose, under the name that he chose it by.

    ``fitting`` is the format that a file is taken for which does not tell it itself. Raises TaesdError.
    """
    vae_folders, other_folders = list(vae_folders), list(other_folders)
    name = canonical_name(name)
    path = installed_vaes_by_name(vae_folders, other_folders).get(name)
    if path is None:
        raise TaesdError(
            f"There is no VAE {name}",
            f"looked in {', '.join(map(str, [*vae_folders, *other_folders])) or 'no folder'}",
            "Choose another VAE for the final image, or put the file into models/VAE",
        )
    if name in VAE_BY_NAME:
        return find_named_vae(name, [*_with_subfolders(vae_folders), *other_folders])
    file = open_tensor_file(path)
    try:
        found = find_full_vae(file)
    except TaesdError:
        variant = next((row.name for row in KL_KINDS if row.latent_format == fitting), None)
        if variant is None:
            raise
        found = find_full_vae(file, variant)
    if found is None:  # the file was replaced since it was listed
        raise TaesdError(f"{path} holds no full-size VAE")
    return replace(found, name=name)


def canonical_name(name: str) -> str:
    """The name in the list of choices, from one in generation parameters: a file's, with the beginning of its hash."""
    name = _HASH.sub("", name.strip())
    return next((row.name for row in NAMED_VAES if name in row.stems), name)


def file_title(path: Path) -> str:
    """A VAE file's name for people: without the suffix, and of a diffusers folder the model's that it is of."""
    if not path.name.startswith(DIFFUSERS_STEM) or path.parent.name == "VAE":
        return path.stem
    return path.parent.parent.name if path.parent.name == "vae" else path.parent.name


def _with_subfolders(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in (folder, *list(listing(folder).folders.values())[:_MOST_FOLDERS])]


def _sd_vaes(folder: Path) -> tuple[Path, ...]:
    """The SD VAEs directly in a folder, or in a diffusers folder in it."""
    own = listing(folder)
    below = [listing(sub) for sub in own.folders.values()]
    with _recognised_lock:
        seen, vaes = _recognised.get(folder, ((), ()))
    if [*map(id, seen)] != [id(own), *map(id, below)]:
        seen = (own, *below)
        files = [path for found in seen if found is own or found.has_config for path in found.files.values()]
        files.sort(key=lambda path: ".fp16" in path.name)  # of a diffusers folder's two the exact one first
        vaes = tuple(path for path in files if _is_sd_vae(path))
        with _recognised_lock:
            _recognised[folder] = seen, vaes
    return vaes


def _is_sd_vae(path: Path) -> bool:
    try:
        return find_prefix(open_tensor_file(path)) is not None
    except TaesdError:
        return False
