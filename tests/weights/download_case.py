"""An official file to download, and how the tests ask for it."""

import hashlib
from dataclasses import replace
from pathlib import Path

from misbehaving_server import Server

from taesd_ext.weights.catalog import OfficialFile
from taesd_ext.weights.download import download_file
from taesd_ext.weights.fetch import Transfer

CONTENT = bytes(range(256)) * 400
ROW = OfficialFile(
    "taesd", ("decoder",), "9.9", "taesd_decoder.pth", "MIT", len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
)
OF_UNKNOWN_SIZE = replace(ROW, size=None)
BY_GIT = replace(
    OF_UNKNOWN_SIZE, sha256="", git_sha1=hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()
)
QUICK = Transfer(attempts=3, first_pause=0.01, timeout=60, lock_wait=120)


def get(server: Server, folder: Path, *how: str, row: OfficialFile = ROW, **options: object) -> Path:
    """Download from the server's addresses of these kinds, one after the other."""
    if "silent" in how:
        options = {"attempts": 2, "timeout": 1, **options}
    return get_from(folder, *map(server.url, how), row=row, **options)


def get_from(
    folder: Path, *sources: str, row: OfficialFile = ROW, offline: bool = False, **transfer: object
) -> Path:
    row = replace(row, sources=sources or row.sources)
    return download_file(row, folder, replace(QUICK, **transfer), offline=offline)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    """What lies there but an empty lock, which stays where a download failed."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock" or path.stat().st_size)
