"""The official weight files: a row of data/official_files.json for each file and version.

A row is used to recognise a file that lies on the disk (every version) and to download one (rows with sources). A git
blob SHA-1 is sha1("blob <size>\\0" + bytes), as git names a file: it identifies the ``.pth`` files of the official
repository, whose other checksums nobody published. A checksum that nobody published stays empty, and then the file is
called "unverified". The newest version of a family comes first.

Sources: the histories of madebyollin/taesd and madebyollin/taehv (git ls-tree), the file pages of huggingface.co.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from taesd_ext.latent_formats import FAMILIES

BOTH = ("encoder", "decoder")

HUGGING_FACE = "https://huggingface.co/"


@dataclass(frozen=True)
class OfficialFile:
    """An official file of one version. ``size`` is in bytes; None where it was not published."""

    family: str
    parts: tuple[str, ...]
    version: str
    name: str
    """Under this name the file is put on the disk."""
    licence: str
    size: int | None = None
    sha256: str = ""
    git_sha1: str = ""
    sources: tuple[str, ...] = ()
    """The same bytes at several addresses, best first; empty where this version is only recognised."""
    first_values: tuple[float, ...] = ()
    """The first eight of a tiny part's first convolution, in bfloat16: they tell a conversion of the file."""
    rounded_size: int | None = None
    """In bytes, where only that was published."""

    @property
    def is_tiny(self) -> bool:
        return self.family in FAMILIES

    @property
    def has_checksum(self) -> bool:
        return bool(self.sha256 or self.git_sha1)

    def __str__(self) -> str:
        return f"{self.family} {' + '.join(self.parts)} {self.version}"


_FILE = Path(__file__).resolve().parents[1] / "data" / "official_files.json"


CATALOG: tuple[OfficialFile, ...] = tuple(
    OfficialFile(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})
    for row in json.loads(_FILE.read_text(encoding="utf-8"))
)


def downloads(family: str) -> list[list[OfficialFile]]:
    """Ways to get a family complete, best first; each is a list of files, all of which are needed.

    The split files come first: under the same names the hosts look for them too.
    """
    rows = [row for row in CATALOG if row.family == family and row.sources]
    split = [row for row in rows if len(row.parts) == 1]
    return [way for way in (split, *([row] for row in rows if row.parts == BOTH)) if way]


def downloadable() -> list[str]:
    """Tiny families that can be downloaded, then full-size VAEs."""
    return sorted(dict.fromkeys(row.family for row in CATALOG if row.sources), key=lambda name: name not in FAMILIES)


def by_checksum(sha256: str, git_sha1: str) -> OfficialFile | None:
    """The official file with this content, whatever its name."""
    for row in CATALOG:
        if (row.sha256 and row.sha256 == sha256) or (row.git_sha1 and row.git_sha1 == git_sha1):
            return row
    return None
