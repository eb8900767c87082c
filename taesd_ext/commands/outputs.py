"""The files that a command is going to write, looked at before it computes anything.

The same for every command: what is there already is replaced only with --overwrite, what is read never.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taesd_ext.errors import TaesdError, one_line


def add_overwrite_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace files that are already there")


def check_outputs(targets: Iterable[Path], *, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Raise TaesdError where a target cannot be written, is one of the ``sources``, or is there and may not go."""
    read = {os.path.realpath(source) for source in sources}
    for target in targets:
        try:
            if os.path.realpath(target) in read:
                raise TaesdError(f"{target} would be overwritten", "it is one of the inputs", "Give another place")
            if target.is_dir():
                raise TaesdError(f"Cannot write {target}", "it is a folder", "Give a file in it")
            if target.exists() and not target.is_file():
                raise TaesdError(f"Cannot write {target}", "it is no ordinary file", "Give another place")
            if os.path.lexists(target) and not overwrite:
                raise already_there(target)
        except OSError as error:
            raise _cannot_write(target, error) from error
        try_to_write(target)


def already_there(target: Path) -> TaesdError:
    return TaesdError(f"{target} is already there", "", "Give another place, or --overwrite to replace it")


def unfinished_file(target: Path) -> Path:
    """Where a target is written before it is whole; the same for every run, so that one replaces what another left."""
    return target.with_name(f".{target.name}.part")


def try_to_write(target: Path) -> None:
    """Raise TaesdError unless a file can be made beside the target. Leaves nothing behind, no new folder either."""
    unfinished = unfinished_file(target)
    made: list[Path] = []
    try:
        for folder in reversed(target.parents):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        with unfinished.open("ab"):
            pass
        unfinished.unlink()
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()


def write_atomically(target: Path, data: bytes) -> None:
    """The whole file or none: a killed run leaves no half file that a resumed one would take for done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_file(target)
    unfinished.write_bytes(data)
    unfinished.replace(target)


def _cannot_write(target: Path, error: OSError) -> TaesdError:
    file = next((folder for folder in target.parents if os.path.isfile(folder)), None)  # noqa: PTH113 - it never raises
    why = f"{file} is a file, no folder" if file else error.strerror or one_line(error)
    return TaesdError(f"Cannot write {target}", why, "Give another place")
