"""Paths that begin with the user's home folder."""

import os
from pathlib import Path


def expanded(path: Path | str) -> Path:
    """With the home folder for "~"; as it is where there is none, for which ``Path.expanduser`` raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111
