"""What a VAE's convolutions see beyond the picture's borders, where a person has said it: remembered by checksum.

A VAE that was trained with reflected or repeated borders draws frames of another colour with zeros, and few files say
it themselves.
"""

import json
from pathlib import Path
from typing import Any

from taesd_ext.errors import TaesdError
from taesd_ext.models.layers import BORDERS
from taesd_ext.weights.folders import cache_folder
from taesd_ext.weights.identify import checksums, known_sha256
from taesd_ext.weights.tensor_file import regular_file_size, write_whole


def remember_borders(path: Path, borders: str) -> None:
    """Let this file's VAE see such borders from now on, wherever it lies. Raises TaesdError."""
    if borders not in BORDERS:
        raise TaesdError(f"There are no {borders} borders", "", f"Use {', '.join(BORDERS)}")
    size, store = regular_file_size(path), _store()
    try:
        known = {**_known(), checksums(path)[0]: {"size": size, "borders": borders}}
        write_whole(store, json.dumps(known).encode())
    except OSError as error:
        raise TaesdError(f"{store} cannot be written", error.strerror or "", "Check its folder") from error


def remembered_borders(path: Path) -> str | None:
    """What was said of this file. It is hashed only where something was said of a file of its size."""
    known = _known()
    try:
        stat = path.stat()
    except OSError:
        return None
    if stat.st_size not in {row["size"] for row in known.values()}:
        return None
    return known.get(known_sha256(path, stat.st_size, stat.st_mtime_ns), {}).get("borders")


def borders_changed() -> int:
    """Changes whenever something new was said."""
    try:
        return _store().stat().st_mtime_ns
    except OSError:
        return 0


def _store() -> Path:
    return cache_folder() / "vae_borders.json"


def _known() -> dict[str, dict[str, Any]]:
    """SHA-256 -> size and borders; what is damaged is left out."""
    try:
        rows = dict(json.loads(_store().read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}
    return {
        key: row for key, row in rows.items()
        if isinstance(row, dict) and isinstance(row.get("size"), int) and row.get("borders") in BORDERS
    }  # fmt: skip
