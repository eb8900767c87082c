"""The folder of weight files as a person sees it: what lies there, put in a file of one's own, take one out.

Reading follows links: a user may link his models folder, or a file in it, to anywhere. Writing does not: a file is
put into or taken out of the given folder itself, and never through a link to another place.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.weights.folders import weight_files
from taesd_ext.weights.identify import Identity, identify
from taesd_ext.weights.keras_file import HDF5_START
from taesd_ext.weights.tensor_file import SAFETENSORS_SUFFIXES, SUFFIXES, open_tensor_file, regular_file_size


def list_weights(
    folders: Iterable[Path], *, strays: bool = False, always_hash: bool = False,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> list[Identity]:  # fmt: skip
    """The autoencoders and the damaged files in these folders; with ``strays`` also the weight files of other kinds.

    ``progress`` gets the paths and hands them on, one at a time: a large file takes seconds.
    """
    found = [identify(path, always_hash=always_hash) for path in progress(weight_files(folders))]
    return found if strays else [identity for identity in found if identity.is_autoencoder or identity.error]


def add_file(source: Path | str, folder: Path | str) -> Identity:
    """Check a user's own weight file and put a copy into the folder, under a name by which it is found.

    That name is of its family and part ("taesd_decoder.safetensors"). Raises TaesdError when the file holds no tiny
    autoencoder, when nothing tells of which family, when its place is taken, or when it cannot be written.
    """
    source, refused = Path(source), f"{Path(source).name} was not added"
    regular_file_size(source)
    with source.open("rb") as file:
        if file.read(len(HDF5_START)) == HDF5_START:
            # Its C library is the least guarded reader here, and this is reached from a page.
            raise TaesdError(refused, "it is a Keras file", "Put it into the folder by hand")
    found = identify(source)
    if found.error:
        raise TaesdError(refused, found.error)
    if not found.parts or not found.families:
        raise TaesdError(refused, "it holds no tiny autoencoder", "Use a TAESD weight file")
    if found.is_guess:
        raise TaesdError(
            refused,
            f"it is either {found.family_words}, and neither its content nor its name says which",
            f"Put the family into its name, as in {found.families[-1]}_{source.name}",
        )
    part = f"_{found.parts[0]}" if len(found.parts) == 1 else ""
    suffix = ".safetensors" if source.suffix.lower() in SAFETENSORS_SUFFIXES else ".pth"
    return identify(copy_into(source, Path(folder) / f"{found.family}{part}{suffix}"))


def copy_into(source: Path, target: Path) -> Path:
    """Copy a file so that the target is whole or absent; give the target. Raises TaesdError where there is one."""
    if target.is_symlink() or target.exists():
        raise TaesdError(
            f"{source.name} was not added", f"{target.name} is already in {target.parent}", "Remove that one first"
        )
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
    return target


def remove_file(path: Path | str, folders: Iterable[Path]) -> None:
    """Delete a weight file that lies directly in one of these folders; of a link, the link alone. Raises TaesdError."""
    path = Path(path)
    inside = any(path.parent.is_dir() and folder.is_dir() and path.parent.samefile(folder) for folder in folders)
    if ".." in path.parts or not inside or path.suffix.lower() not in SUFFIXES:
        raise TaesdError(f"{path} was not removed", "it is no weight file in a folder of weights")
    try:
        path.unlink()
    except OSError as error:
        raise TaesdError(f"{path} was not removed", error.strerror or one_line(error)) from error
