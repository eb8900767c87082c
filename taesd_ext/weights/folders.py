"""Where weight files lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from taesd_ext.errors import TaesdError, log_once

MODELS_VARIABLE = "TAESD_MODELS"
"""Environment variable with folders of weight files, separated as PATH is."""

_HOST_FOLDERS = ("models/VAE-taesd", "models/vae_approx")
"""The folders of A1111 and ComfyUI, as seen from the program's own folder."""

_Found = TypeVar("_Found")


def cache_folder() -> Path:
    """The user's folder for downloaded weights: $XDG_CACHE_HOME/taesd_ext, else ~/.cache/taesd_ext."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "taesd_ext"


def given_folders(models_dir: Path | str | Iterable[Path | str] | None) -> list[Path]:
    """The folders that a person gave. Raises TaesdError for one that is not there.

    Without them other weights would be used than those that he meant. A host's own folders may not exist yet.
    """
    given = _listed(models_dir)
    for folder in given:
        if not folder.is_dir():
            why = "it is a file" if folder.is_file() else "it does not exist"
            raise TaesdError(f"{folder} is no folder of weights", why, "Give the folder in which the files lie")
    return given


def named_in_environment() -> list[str]:
    """The folders of $TAESD_MODELS, as they are written there."""
    return [part for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]


def _listed(models_dir: Path | str | Iterable[Path | str] | None) -> list[Path]:
    given = [] if models_dir is None else [models_dir] if isinstance(models_dir, (str, Path)) else models_dir
    return [Path(folder).expanduser() for folder in given]


def search_folders(
    models_dir: Path | str | Iterable[Path | str] | None = None, host_folders: tuple[str, ...] = _HOST_FOLDERS
) -> list[Path]:
    """Existing folders in the order in which they are searched.

    Those given, those of $TAESD_MODELS, the WebUI's and ComfyUI's below the working folder, the user's cache. A given
    WebUI or ComfyUI folder stands for its own models folders too, which are called ``host_folders``.
    """
    named = _listed(models_dir)
    named += _listed(named_in_environment())
    folders: list[Path] = []
    for folder in [*named, Path.cwd()]:
        own = [folder] if folder in named else []
        folders += [*own, *(folder / sub for sub in (*host_folders, *(Path(name).name for name in host_folders)))]
    folders.append(cache_folder())
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def diffusers_files(folder: Path) -> list[Path]:
    """The weight files of a diffusers folder (with config.json), full precision first."""
    if not (folder / "config.json").is_file():
        return []
    stem = "diffusion_pytorch_model"
    names = (f"{stem}.safetensors", f"{stem}.fp16.safetensors", f"{stem}.bin", f"{stem}.fp16.bin")
    return [path for name in names if (path := folder / name).is_file()]


def first_good(paths: Iterable[Path], read: Callable[[Path], _Found | None]) -> _Found | None:
    """What ``read`` finds in the first file that has it.

    A bad file, for which ``read`` raises TaesdError, is passed over, and said once, when a good one follows; without
    one its error is raised.
    """
    bad: TaesdError | None = None
    for path in paths:
        try:
            found = read(path)
        except TaesdError as error:
            bad = bad or error
            continue
        if found is not None:
            if bad:
                log_once(f"bad file {bad.what}", f"{bad} Using {path} instead.")
            return found
    if bad:
        raise bad
    return None
