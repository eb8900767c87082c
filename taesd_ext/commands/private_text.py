"""Text that may be shown to anybody: known folders by a label, home folders as ~."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from taesd_ext.home import expanded

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
    home = expanded("~")
    homes = [path for path in (home, Path(os.path.realpath(home))) if home.is_absolute() and path.name]
    written = {
        form: label
        for folder, label in (labels or {}).items()
        for form in (str(folder), os.path.realpath(folder))
        if os.sep in form and not any(home.is_relative_to(form) for home in homes)
    }
    for form in sorted(written, key=len, reverse=True):
        text = _named(form).sub(written[form], text)
    for home in homes:
        text = _named(str(home), ends=r"[\\/]").sub("~", text)
    text = _HOMES.sub("~", text)  # before a space may end a name: "/home/alice smith" is not alice's
    for home in homes:
        text = _named(str(home)).sub("~", text)
    return text


def _named(folder: str, ends: str = r"[\\/\s,:;.)'\"`]|$") -> re.Pattern[str]:
    """Where a text names the folder or what is in it, not another one whose name only begins so."""
    pieces = r"[\\/]+".join(map(re.escape, re.split(r"[\\/]+", folder)))
    return re.compile(rf"(?<![\w.~\\/-]){pieces}(?={ends})", re.IGNORECASE if os.name == "nt" else 0)
