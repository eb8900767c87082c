"""Where weight files lie, and what lies there: each folder is read once, until its time of change says otherwise."""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from taesd_ext.errors import TaesdError, log_once
from taesd_ext.home import expanded
from taesd_ext.settings import can_be_stored
from taesd_ext.weights.tensor_file import SUFFIXES

MODELS_VARIABLE = "TAESD_MODELS"
"""Environment variable with folders of weight files, separated as PATH is."""

_HOST_FOLDERS = ("models/VAE-taesd", "models/vae_approx")
"""The folders of A1111 and ComfyUI, as seen from the program's own folder."""

DIFFUSERS_STEM = "diffusion_pytorch_model"
_DIFFUSERS_NAMES = tuple(f"{DIFFUSERS_STEM}{end}" for end in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin"))

_MOST_ENTRIES = 20_000
"""Names read from one folder: a folder with more is not a folder of weights."""
_SETTLED = 2.0
"""Seconds: a folder that changed so shortly ago may change again without its time saying so."""

_Found = TypeVar("_Found")


def cache_folder() -> Path:
    """The user's folder for downloaded weights: $XDG_CACHE_HOME/taesd_ext, else ~/.cache/taesd_ext.

    Where nobody has a home, as in some containers, it lies among the temporary files.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        home = expanded("~")
        base = home / ".cache" if home.is_absolute() else tempfile.gettempdir()
    return Path(base) / "taesd_ext"


def given_folders(models_dir: Path | str | Iterable[Path | str] | None) -> list[Path]:
    """The folders that a person gave. Raises TaesdError for one that is not there.

    Without them other weights would be used than those that he meant. A host's own folders may not exist yet.
    """
    given = _listed(models_dir)
    for folder in given:
        if not folder.is_dir():
            why = "it is a file" if folder.is_file() else "it does not exist"
            raise TaesdError(f"{folder} is not a folder of weights", why, "Give the folder in which the files lie")
    return given


def named_in_environment() -> list[str]:
    """The folders of $TAESD_MODELS, as they are written there."""
    return [part for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]


def _listed(models_dir: Path | str | Iterable[Path | str] | None) -> list[Path]:
    given = [] if models_dir is None else [models_dir] if isinstance(models_dir, (str, Path)) else models_dir
    return [expanded(folder) for folder in given]


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


@dataclass(frozen=True, eq=False)
class Listing:
    """The weight files and the folders directly in a folder, by name."""

    files: dict[str, Path]
    folders: dict[str, Path]
    has_config: bool
    """A config.json is there: it is a folder as diffusers writes them."""
    may_grow: bool = False
    """A link in it leads nowhere now, and what it leads to may come."""


_remembered: dict[str, tuple[int, Listing]] = {}


def listing(folder: Path) -> Listing:
    """The folder's content; empty where it cannot be read."""
    try:
        changed = folder.stat().st_mtime_ns
        known = _remembered.get(str(folder))
        if known and known[0] == changed:
            return known[1]
        found = _read(folder)
    except OSError:
        return Listing({}, {}, has_config=False)
    if time.time() - changed / 1e9 > _SETTLED and not found.may_grow:
        _remembered[str(folder)] = changed, found
    return found


def _read(folder: Path) -> Listing:
    files, folders, has_config, may_grow = {}, {}, False, False
    with os.scandir(folder) as entries:
        listed = sorted((entry for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False)), key=lambda e: e.name)
    for entry in listed:
        has_config = has_config or entry.name == "config.json"
        try:
            is_file = Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file()
            if not (is_file or entry.is_dir()):
                may_grow = may_grow or (entry.is_symlink() and not entry.is_file())
            elif _is_text(entry.name):
                (files if is_file else folders)[entry.name] = Path(entry.path)
        except OSError:  # a link that leads in a circle
            continue
    return Listing(files, folders, has_config, may_grow)


def _is_text(name: str) -> bool:
    """No page, no answer and no settings file can hold other names."""
    if can_be_stored(name):
        return True
    shown = os.fsencode(name).decode(errors="backslashreplace")
    log_once(f"name {shown}", f"{shown} is left out: its name is not valid text. Rename it to use it.")
    return False


def diffusers_files(folder: Path) -> list[Path]:
    """The weight files of a diffusers folder (with config.json), full precision first."""
    found = listing(folder)
    return [found.files[name] for name in _DIFFUSERS_NAMES if found.has_config and name in found.files]


def weight_files(folders: Iterable[Path]) -> list[Path]:
    """Weight files and diffusers folders' files in these folders (not below them), unopened, by folder and name."""
    found: list[Path] = []
    for folder in folders:
        here = listing(folder)
        held = {**{name: [path] for name, path in here.files.items()},
                **{name: diffusers_files(path) for name, path in here.folders.items()}}  # fmt: skip
        found += [path for name in sorted(held) for path in held[name]]
    return list(dict.fromkeys(found))


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
