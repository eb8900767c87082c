"""The files that a command is going to write, looked at before it computes anything.

The same for every command: what is there already is replaced only with --overwrite, what is read never.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from taesd_ext.errors import TaesdError, one_line


def add_overwrite_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace files that are already there")


def check_outputs(targets: Iterable[Path], *, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Raise TaesdError where a target cannot be written, is one of the ``sources``, or is there and may not go."""
    read = {os.path.realpath(source) for source in sources}
    for target in targets:
        if os.path.realpath(target) in read:
            raise TaesdError(f"{target} would be overwritten", "it is one of the inputs", "Choose another place")
        if os.path.lexists(target) and not overwrite:
            raise already_there(target)
        try_to_write(target)


def already_there(target: Path) -> TaesdError:
    return TaesdError(f"{target} is already there", "", "Choose another output, or replace it with --overwrite")


def try_to_write(target: Path) -> None:
    """Raise TaesdError unless a file can be made there. Leaves nothing behind."""
    try:
        if target.exists() and not target.is_file():
            raise TaesdError(f"Cannot write {target}", "it is not a regular file", "Choose another place")
        with tempfile.TemporaryFile(dir=next(folder for folder in target.parents if folder.exists())):
            pass
    except OSError as error:
        raise TaesdError(f"Cannot write {target}", error.strerror or one_line(error), "Choose another place") from error


def write_atomically(target: Path, data: bytes) -> None:
    """The whole file or none: a killed run leaves no half file that a resumed one would take for done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")  # the same for every run: one replaces what another left
    unfinished.write_bytes(data)
    unfinished.replace(target)
