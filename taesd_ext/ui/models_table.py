"""The panel's table of families: which file serves each part, what it is, and whether it has its reduced details."""

from __future__ import annotations

from pathlib import Path

from taesd_ext.codec.calibrated import details_of_file
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS
from taesd_ext.ui import texts
from taesd_ext.ui.downloads import megabytes
from taesd_ext.ui.markup import badge, table
from taesd_ext.weights.identify import OFFICIAL, UNREADABLE, UNVERIFIED, identify
from taesd_ext.weights.installed import installed
from taesd_ext.weights.tiny_file import PARTS

_STATE_KINDS = {OFFICIAL: "good", UNREADABLE: "bad"}
_NOT_LOOKED = "…"


def families_html(folders: list[Path], *, look: bool = True) -> str:
    """The table. Without ``look`` no decoder is loaded for it: what is not known yet is left open."""
    used = installed(folders)
    rows = []
    for family in FAMILIES:
        name, titles = family, ", ".join(row.title for row in LATENT_FORMATS if row.family == family)
        found = used.get(family, {})
        # A file that holds both parts has one line.
        for path in dict.fromkeys(found.get(part) for part in PARTS):
            parts = [part for part in PARTS if found.get(part) == path]
            details = _details_cell(family, path, look) if path and "decoder" in parts else ""
            state, *about = _file_cells(path)
            rows.append((name, " + ".join(parts), state, details, *about[:-1], titles, about[-1]))
            name = titles = ""
    return table(texts.MODELS_HEAD, rows, "taesd-ext-models")


def _file_cells(path: Path | None) -> tuple[str, ...]:
    """(state, version, size, licence, file)"""
    if path is None:
        return badge("missing", "none"), "", "", "", ""
    found = identify(path)
    official = found.official
    words = texts.UNVERIFIED if found.state == UNVERIFIED else found.state
    state = badge(words, _STATE_KINDS.get(found.state, "fair"))
    version = official.version if official else ""
    licence = official.licence if official else ""
    return state, version, megabytes(found.size), licence, str(path)


def _details_cell(family: str, path: Path, look: bool) -> str:
    found = details_of_file(family, path, look=look)
    if found is None:
        return _NOT_LOOKED
    return badge(found, "good") if found else badge(texts.DETAILS_NONE, "none")
