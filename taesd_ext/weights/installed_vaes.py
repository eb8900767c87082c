"""Full-size VAEs in the model folders: found by name or by file, and added."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.weights.folders import DIFFUSERS_STEM, Listing, diffusers_files, first_good, listing, search_folders
from taesd_ext.weights.identify import identify
from taesd_ext.weights.store import copy_into
from taesd_ext.weights.tensor_file import SAFETENSORS_SUFFIXES, SUFFIXES, open_tensor_file
from taesd_ext.weights.vae_file import FullVAE, find_full_vae, find_layout, find_networks, read_config
from taesd_ext.weights.vae_layouts import LDM, Layout
from taesd_ext.weights.vae_table import VAE_BY_NAME, VAES

_HOST_FOLDERS = ("models/VAE", "models/vae")
"""Where A1111 and ComfyUI keep full-size VAEs."""

_HASH = re.compile(r" \([0-9a-f]{10}\)$")
_MOST_FOLDERS = 200
_LARGEST = 2**30
"""Bytes. FLUX.1's VAE in float32 has 335 MB."""
_LONGEST_NAME = 100


def find_named_vae(name: str, models_dir: Path | str | Iterable[Path | str] | None = None) -> FullVAE:
    """The VAE of this name from the first good file in the search folders. Raises TaesdError."""
    folders = search_folders(models_dir, _HOST_FOLDERS)
    if found := first_good(_candidates(name, folders), lambda path: _read(path, name)):
        return found
    raise TaesdError(
        f"No weights for {name}",
        f"looked for {' or '.join(VAE_BY_NAME[name].stems)} ({', '.join(SUFFIXES)}) or a diffusers folder {name} in: "
        f"{', '.join(map(str, folders)) or 'no folder of weights exists'}",
        "Put the file into models/VAE, or give its path",
    )


def installed_vaes(
    latent_format: LatentFormat, models_dir: Path | str | Iterable[Path | str] | None = None
) -> list[str]:
    """Names of the VAEs for these latents of which a file is there, unopened."""
    folders = search_folders(models_dir, _HOST_FOLDERS)
    fitting = [row.name for row in VAES if row.latent_format == latent_format]
    return [name for name in fitting if next(_candidates(name, folders), None)]


def installed_vaes_by_name(vae_folders: Iterable[Path], other_folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Name -> file: the VAEs that have a name of their own, then those known by their file's name.

    The named ones are looked for in all search folders, unopened; every file in ``vae_folders`` and the folders in them
    whose header is that of a full-size VAE is one of the others. Folders and headers are read once.
    """
    vae_folders = _with_subfolders(vae_folders)
    searched = search_folders([*vae_folders, *other_folders])
    candidates = {row.name: list(_candidates(row.name, searched)) for row in VAES}
    found = {name: paths[0] for name, paths in candidates.items() if paths}
    named = {path for paths in candidates.values() for path in paths}
    for path in (path for folder in vae_folders for path in _vaes_in(folder) if path not in named):
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
    try:
        found = _read(path)
    except TaesdError:
        if fitting is None or fitting.name not in VAE_BY_NAME:
            raise
        found = _read(path, fitting.name)
    return replace(found, name=name)


def _read(path: Path, variant: str | None = None) -> FullVAE:
    if found := find_full_vae(open_tensor_file(path), variant):
        return found
    raise TaesdError(f"{path} holds no full-size VAE", "", "Put the right file in its place")


def canonical_name(name: str) -> str:
    """The name in the list of choices, from one in generation parameters: a file's, with the beginning of its hash."""
    name = _HASH.sub("", name.strip())
    return next((row.name for row in VAES if name in row.stems), name)


def file_title(path: Path) -> str:
    """A VAE file's name for people: without the suffix, and of a diffusers folder the model's that it is of."""
    if not path.name.startswith(DIFFUSERS_STEM) or path.parent.name == "VAE":
        return path.stem
    return path.parent.parent.name if path.parent.name == "vae" else path.parent.name


def add_vae_file(source: Path | str, folder: Path | str) -> Path:
    """Copy a user's own file into the folder from which a WebUI's SD VAE setting takes its files; give its place there.

    A published VAE gets its published name, another one keeps its own, without odd characters. Raises TaesdError when
    the file holds no full-size VAE that a WebUI can load, or when its place is taken.
    """
    source = Path(source)
    _check_for_webui(source)
    official = identify(source, always_hash=True).official
    return copy_into(source, Path(folder) / (official.name if official else _own_name(source)))


def _check_for_webui(source: Path) -> None:
    layout, networks = _contents(source)
    refused = f"{source.name} was not added"
    if not networks or source.stat().st_size > _LARGEST:
        why = "it is too large for a VAE alone" if networks else "it holds no full-size VAE"
        raise TaesdError(refused, why, "Use a file such as vae-ft-mse-840000-ema-pruned.safetensors")
    if layout != (LDM, ""):
        raise TaesdError(
            refused,
            "the WebUI loads VAEs in the original layout only, with keys such as decoder.conv_in.weight",
            "It can still be chosen as the VAE for the final image",
        )
    if len(networks) < 2:
        raise TaesdError(refused, "it lacks the encoder or the decoder")


def _contents(path: Path) -> tuple[tuple[Layout, str] | None, dict[str, Any]]:
    """The layout of the VAE in a file and what stands before its keys, and its networks; none where it holds none."""
    file = open_tensor_file(path)
    layout = find_layout(file)
    return layout, find_networks(file, *layout, read_config(path)) if layout else {}


def _own_name(source: Path) -> str:
    stem = re.sub(r"[^\w .()+-]", "_", source.stem).strip(" .")[:_LONGEST_NAME] or "vae"
    # The suffixes that A1111 lists.
    return f"{stem}{'.safetensors' if source.suffix.lower() in SAFETENSORS_SUFFIXES else '.ckpt'}"


def _candidates(name: str, folders: Iterable[Path]) -> Iterator[Path]:
    """Existing files that may hold the VAE of this name, best first."""
    for folder in folders:
        found, stems = listing(folder), VAE_BY_NAME[name].stems
        names = (f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
        yield from (found.files[name] for name in names if name in found.files)
        yield from (path for stem in stems if stem in found.folders for path in diffusers_files(found.folders[stem]))


def _with_subfolders(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in (folder, *list(listing(folder).folders.values())[:_MOST_FOLDERS])]


def _vaes_in(folder: Path) -> tuple[Path, ...]:
    """The full-size VAEs directly in a folder, or in a diffusers folder in it."""
    here = listing(folder)
    return _vaes_among(here, *(below for path in here.folders.values() if (below := listing(path)).has_config))


@lru_cache(1024)
def _vaes_among(*places: Listing) -> tuple[Path, ...]:
    """Headers are read once: a folder that did not change has the same Listing."""
    files = [path for place in places for path in place.files.values()]
    files.sort(key=lambda path: ".fp16" in path.name)  # of a diffusers folder's two the exact one first
    return tuple(path for path in files if _is_full_vae(path))


def _is_full_vae(path: Path) -> bool:
    try:
        return bool(_contents(path)[1])
    except TaesdError:
        return False
