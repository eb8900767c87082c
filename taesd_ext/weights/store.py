"""The folder of weight files as a person sees it: what lies there, put in a file of one's own, take one out.

Reading follows links: a user may link his models folder, or a file in it, to anywhere. Writing does not: a file is
put into or taken out of the given folder itself, and never through a link to another place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.settings import can_be_stored
from taesd_ext.weights.folders import diffusers_files
from taesd_ext.weights.identify import Identity, identify
from taesd_ext.weights.keras_file import HDF5_START, KERAS_SUFFIXES
from taesd_ext.weights.tensor_file import SAFETENSORS_SUFFIXES, SUFFIXES, open_tensor_file, regular_file_size

_MOST_ENTRIES = 20_000
"""Names read from one folder: a folder with more is no folder of weights."""

_LARGEST_OWN = 8 * 2**30


def weight_files(folders: Iterable[Path]) -> list[Path]:
    """Weight files and diffusers folders' files in these folders (not below them), unopened, by folder and name."""
    found: list[Path] = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                listed = sorted((entry for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False)), key=_name)
        except OSError:
            continue
        for entry in listed:
            path = Path(entry.path)
            held: list[Path] = []
            if path.suffix.lower() in SUFFIXES and _holds(entry.is_file):
                held = [path]
            elif not path.suffix and _holds(entry.is_dir):
                held = diffusers_files(path)
            if held and _is_text(entry.name):
                found += held
    return list(dict.fromkeys(found))


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_text(name: str) -> bool:
    """No page, no answer and no settings file can hold other names."""
    if can_be_stored(name):
        return True
    shown = os.fsencode(name).decode(errors="backslashreplace")
    log_once(f"name {shown}", f"{shown} is left out: its name is no text. Rename it to use it.")
    return False


def _holds(question: Callable[[], bool]) -> bool:
    """A link that leads nowhere, or in a circle, is neither a file nor a folder."""
    try:
        return question()
    except OSError:
        return False


def list_weights(folders: Iterable[Path], *, strays: bool = False, always_hash: bool = False) -> list[Identity]:
    """The autoencoders and the damaged files in these folders; with ``strays`` also the weight files of other kinds."""
    found = [identify(path, always_hash=always_hash) for path in weight_files(folders)]
    return found if strays else [identity for identity in found if identity.is_autoencoder or identity.error]


def add_file(source: Path | str, folder: Path | str) -> Identity:
    """Check a user's own weight file and put a copy into the folder, under a name by which it is found.

    That name is of its family and part ("taesd_decoder.safetensors"). Raises TaesdError when the file holds no tiny
    autoencoder, when nothing tells of which family, when its place is taken, or when it cannot be written.
    """
    source, folder = Path(source), Path(folder)
    if source.suffix.lower() in KERAS_SUFFIXES or _starts_as_hdf5(source):
        # Its C library is the least guarded reader here, and this is reached from a page.
        raise TaesdError(f"{source.name} was not added", "it is a Keras file", "Put it into the folder by hand")
    identity = identify(source)
    if identity.error:
        raise TaesdError(f"{source.name} was not added", identity.error)
    if not identity.parts or not identity.families:
        raise TaesdError(f"{source.name} was not added", "it holds no tiny autoencoder", "Use a TAESD weight file")
    if identity.told.is_guess:
        raise TaesdError(
            f"{source.name} was not added",
            f"it is of {identity.told}, and nothing in it or in its name tells which",
            f"Put the family into its name, as in {identity.families[-1]}_{source.name}",
        )
    if identity.size > _LARGEST_OWN:
        raise TaesdError(f"{source.name} was not added", f"it has {identity.size:,} bytes")
    target = folder / own_name(identity)
    if target.is_symlink() or target.exists():
        raise TaesdError(
            f"{source.name} was not added",
            f"{target.name} is already in {folder}",
            "Remove that one first",
        )
    copy_into(source, target)
    return identify(target)


def _starts_as_hdf5(path: Path) -> bool:
    regular_file_size(path)
    with path.open("rb") as file:
        return file.read(len(HDF5_START)) == HDF5_START


def own_name(identity: Identity) -> str:
    """The name under which a file with this content is looked for."""
    family = identity.families[0]
    part = f"_{identity.parts[0]}" if len(identity.parts) == 1 else ""
    suffix = identity.path.suffix.lower()
    is_safetensors = suffix in SAFETENSORS_SUFFIXES
    return f"{family}{part}{'.safetensors' if is_safetensors else '.pth'}"


def copy_into(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole or absent. Raises TaesdError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as out, source.open("rb") as file:
                shutil.copyfileobj(file, out, 2**20)
            open_tensor_file(temporary)
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or one_line(error)
        raise TaesdError(f"Cannot write {target}", why, "Choose another folder, or make room") from error


def remove_file(path: Path | str, folders: Iterable[Path]) -> None:
    """Delete a weight file that lies directly in one of these folders; of a link, the link alone. Raises TaesdError."""
    path = Path(path)
    inside = any(_same_folder(path.parent, folder) for folder in folders)
    if ".." in path.parts or not inside or path.suffix.lower() not in SUFFIXES:
        raise TaesdError(f"{path} was not removed", "it is no weight file in a folder of weights")
    try:
        path.unlink()
    except OSError as error:
        raise TaesdError(f"{path} was not removed", error.strerror or one_line(error)) from error


def _same_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
