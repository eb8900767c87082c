"""What a weight file is: an official one by its checksum, else what its content, and last its name, says."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from taesd_ext.errors import TaesdError
from taesd_ext.weights.catalog import CATALOG, TINY, OfficialFile, by_checksum
from taesd_ext.weights.family import GUESS, NOTHING_TOLD, Told, tell_family
from taesd_ext.weights.tensor_file import TensorFile, open_tensor_file
from taesd_ext.weights.tiny_file import TinyPart, UnknownStructure, find_tiny_parts

OFFICIAL, UNVERIFIED, UNKNOWN, UNREADABLE = "official", "unverified", "unknown", "unreadable"
"""What a file can be called. Unknown is a sound one that resembles a tiny autoencoder and cannot be used yet."""

HASH_UP_TO = 2**30
"""Larger files take many seconds to read: their checksum is computed only when asked for (`weights verify`)."""

_CHUNK = 2**20
_MOST_REMEMBERED = 4096


@dataclass(frozen=True)
class Identity:
    """What a file is, for people and for programs."""

    path: Path
    size: int
    official: OfficialFile | None = None
    parts: tuple[str, ...] = ()
    """The parts of a tiny autoencoder that it holds, "encoder" and "decoder"."""
    kind: str = ""
    """The structure of the tiny autoencoder, in words."""
    told: Told = NOTHING_TOLD
    """The families that the file's content and name leave."""
    hashed: bool = True
    """Whether the checksum was computed; very large files are not read without need."""
    error: str = ""
    """Why it cannot be used, in one line."""
    sound: bool = True
    """Its content could be read."""

    @property
    def state(self) -> str:
        if self.official:
            return OFFICIAL
        if self.error:
            return UNKNOWN if self.sound else UNREADABLE
        return UNVERIFIED

    @property
    def families(self) -> tuple[str, ...]:
        """The family where the content tells it, else those that the structure allows, likeliest first."""
        return (self.official.family,) if self.official else self.told.families

    @property
    def family(self) -> str:
        """The family whose decoder or encoder this file is used as; "" where several are left, or none."""
        return "" if not self.families or self.told.is_guess else self.families[0]

    @property
    def is_autoencoder(self) -> bool:
        return bool(self.official or self.kind)

    def __str__(self) -> str:
        if self.official:
            return str(self.official)
        if self.kind:
            guess = f" of {self.told}, which nothing tells" if self.told.is_guess else ""
            if self.told.families and self.told.evidence == GUESS and not guess:
                guess = f", by its shape of {self.told}"
            return f"{self.kind} tiny {' + '.join(self.parts)}{guess}"
        return self.error or "no autoencoder known here"


def checksums(path: Path) -> tuple[str, str]:
    """SHA-256 and git blob SHA-1 of a file, read once."""
    sha256 = hashlib.sha256()
    # It names a file as git does. Weights that bear this name are still read as hostile ones.
    git = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            git.update(chunk)
    return sha256.hexdigest(), git.hexdigest()


_remembered: dict[tuple[str, str, int, int], Identity] = {}
_remembered_lock = threading.Lock()


def identify(path: Path | str, *, always_hash: bool = False) -> Identity:
    """Recognise a weight file. Never raises for a bad file: its Identity then holds the error's line.

    The answer is remembered as long as the file's size and time of change stay the same. ``always_hash`` computes the
    checksum also of files over ``HASH_UP_TO`` bytes and of those whose structure is of no network here.
    """
    path = Path(path)
    try:
        key = _key(path)
        with _remembered_lock:
            known = _remembered.get(key)
        if known is None or (always_hash and not known.hashed):
            known = _identify(path, key[2], always_hash)
            if _key(path) == key:
                _remember(key, known)
    except OSError as error:
        return Identity(path, 0, error=f"Cannot read {path}: {error.strerror or error}.", sound=False, hashed=False)
    return known


def told_by(file: TensorFile, parts: dict[str, TinyPart]) -> Told:
    """The families that an opened file with these parts may be of. Raises TaesdError if it is damaged."""
    return tell_family(file, parts, identify(file.path).official)


def _key(path: Path) -> tuple[str, str, int, int]:
    """The folder too: its name may tell what a file is, and the working folder changes."""
    stat = path.stat()
    return str(path), str(path.absolute().parent), stat.st_size, stat.st_mtime_ns


def _remember(key: tuple[str, str, int, int], identity: Identity) -> None:
    with _remembered_lock:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[key] = identity


def _identify(path: Path, size: int, always_hash: bool) -> Identity:
    found: dict[str, TinyPart] = {}
    problem: TaesdError | None = None
    if may_be_tiny(size):
        try:
            found = find_tiny_parts(open_tensor_file(path))
        except TaesdError as error:
            problem = error
    hashed = always_hash or bool(found) or (size <= HASH_UP_TO and _size_is_official(size))
    official = by_checksum(*checksums(path)) if hashed else None
    told = NOTHING_TOLD
    if found:
        try:
            told = tell_family(next(iter(found.values())).file, found, official)
        except TaesdError as error:
            found, problem = {}, error
    return Identity(
        path, size, official, tuple(found), next(iter(found.values())).network.kind if found else "", told, hashed,
        error=str(problem or ""), sound=problem is None or isinstance(problem, UnknownStructure),
    )  # fmt: skip


# The largest tiny autoencoder, LTX-2.3's wide one, has 30 million weights: 121 MB in float32.
_LARGEST_TINY = 128 * 2**20
# The smallest official file of another kind is Stable Diffusion's VAE in half precision, of 167 MB.
_SMALLEST_OTHER = 150 * 2**20


def may_be_tiny(size: int) -> bool:
    return size <= _LARGEST_TINY


def _size_is_official(size: int) -> bool:
    """Whether an official file can have this size; of some the size is not known."""
    return any(
        row.size == size
        or (row.size is None and row.kind != TINY and size >= _SMALLEST_OTHER)
        for row in CATALOG
    )
