"""Text that may be shown to anybody: models folders and the working folder by a label, home folders as ~."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

# A name may have spaces where a separator follows; else it ends at the first one. Rather too much is taken out than
# too little: of "/home/ann or/else" the word goes too.
_SPACED_NAME = r"[^\\/:*?\"<>|\n]*[^\\/:*?\"<>|\s'(,;](?=[\\/])"
_PLAIN_NAME = r"[^\\/\s,:;)'\"]*[^\\/\s,:;)'\".]"
_HOMES = re.compile(
    rf"(?:(?i:[a-z]:[\\/]+Users|/(?:mnt|cygdrive)/[a-z]/Users|/[a-z]/Users)|(?:/var|/export)?/home|/Users)"
    rf"[\\/]+(?:{_SPACED_NAME}|{_PLAIN_NAME})"
)


def without_private(text: str, labels: Mapping[Path, str] | None = None) -> str:
    """The text with the folders in ``labels`` written as these, and homes, this user's and any other's, as ~.

    A folder that a home lies in is not labelled: its label would leave the user's name behind it.
    """
    homes = {Path.home(), Path(os.path.realpath(Path.home()))}
    written: dict[str, str] = {}
    for folder, label in (labels or {}).items():
        if not any(home.is_relative_to(folder) and home != folder for home in homes):
            written.setdefault(str(folder), label)
            written.setdefault(os.path.realpath(folder), label)
    for folder in sorted(written, key=len, reverse=True):
        if Path(folder) != Path(Path(folder).anchor):
            text = _path(folder).sub(lambda _, label=written[folder]: label, text)
    own = [str(home) for home in homes if home != Path(home.anchor)]
    for home in own:
        text = _path(home, ends=r"[\\/]").sub("~", text)
    text = _HOMES.sub("~", text)  # before a space may end a name: "/home/alice smith" is not alice's
    for home in own:
        text = _path(home).sub("~", text)
    return text


def _path(folder: str, ends: str = r"[\\/\s,:;.)'\"`]|$") -> re.Pattern[str]:
    """Where a text names the folder or what is in it, not another one whose name only begins so."""
    pieces = r"[\\/]+".join(map(re.escape, re.split(r"[\\/]+", folder)))
    flags = re.IGNORECASE if os.name == "nt" else 0
    return re.compile(rf"(?<![\w.~\\/-]){pieces}(?={ends})", flags)
