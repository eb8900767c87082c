"""What lies in a folder, read once and remembered until the folder's time of change says otherwise."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from taesd_ext.settings import can_be_stored
from taesd_ext.weights.tensor_file import SUFFIXES

_MOST_ENTRIES = 20_000
"""Names read from one folder: a folder with more is no folder of weights."""

_SETTLED = 2.0
"""Seconds: a folder that changed so shortly ago may change again without its time saying so."""


@dataclass(frozen=True)
class Listing:
    """The weight files and the folders directly in a folder, by name."""

    files: dict[str, Path]
    folders: dict[str, Path]
    has_config: bool
    """A config.json is there: it is a folder as diffusers writes them."""


_remembered: dict[str, tuple[int, Listing]] = {}
_lock = threading.Lock()


def listing(folder: Path) -> Listing:
    """The folder's content; empty where it cannot be read. One look at the folder's time where nothing changed."""
    try:
        changed = folder.stat().st_mtime_ns
        with _lock:
            known = _remembered.get(str(folder))
        if known and known[0] == changed:
            return known[1]
        found = _read(folder)
    except OSError:
        return Listing({}, {}, has_config=False)
    if time.time() - changed / 1e9 > _SETTLED:
        with _lock:
            _remembered[str(folder)] = changed, found
    return found


def _read(folder: Path) -> Listing:
    files, folders, has_config = {}, {}, False
    with os.scandir(folder) as entries:
        for entry in sorted((entry for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False)), key=_name):
            has_config = has_config or entry.name == "config.json"
            if not can_be_stored(entry.name):
                continue
            try:
                if Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
                    files[entry.name] = Path(entry.path)
                elif entry.is_dir():
                    folders[entry.name] = Path(entry.path)
            except OSError:  # a link that leads nowhere, or in a circle
                continue
    return Listing(files, folders, has_config)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
