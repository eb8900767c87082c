"""What a weight file is: an official one by its checksum, else what its content, and last its name, says."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from taesd_ext.errors import TaesdError, UnusableWeights
from taesd_ext.weights.catalog import CATALOG, OfficialFile, by_checksum
from taesd_ext.weights.family import tell_families
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.tiny_file import find_tiny_parts

OFFICIAL, UNVERIFIED, UNKNOWN, UNREADABLE = "official", "unverified", "unknown", "unreadable"
"""What a file can be called. Unknown is a sound one that cannot be used here."""

HASH_UP_TO = 2**30
"""Larger files take many seconds to read: their checksum is computed only when asked for (`weights verify`)."""

_CHUNK = 2**20
_MOST_REMEMBERED = 4096
# The largest tiny autoencoder, LTX-2.3's wide one, has 30 million weights: 121 MB in float32.
_LARGEST_TINY = 128 * 2**20
# The smallest official file of another kind is Stable Diffusion's VAE in half precision, of 167 MB.
_SMALLEST_OTHER = 150 * 2**20


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
    families: tuple[str, ...] = ()
    """The family that it is of, or those that it may be of, likeliest first."""
    by_shape: bool = False
    """Nothing but the shape of its tensors tells the families."""
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
    def is_guess(self) -> bool:
        """It may be of several families, and nothing tells which."""
        return self.by_shape and len(self.families) > 1

    @property
    def family(self) -> str:
        """The family whose decoder or encoder this file is used as; "" where several are left, or none."""
        return "" if not self.families or self.is_guess else self.families[0]

    @property
    def family_words(self) -> str:
        """The family for people; "taesd or taesdxl" where nothing tells which."""
        return " or ".join(self.families if self.is_guess else self.families[:1])

    @property
    def is_autoencoder(self) -> bool:
        return bool(self.official or self.kind)

    def __str__(self) -> str:
        if self.official:
            return str(self.official)
        if not self.kind:
            return self.error or "not a known autoencoder"
        words = f"{self.kind} tiny {' + '.join(self.parts)}"
        if self.is_guess:
            return f"{words}, either {self.family_words}"
        return f"{words}, {self.family} by its shape" if self.by_shape and self.family else words


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


@functools.lru_cache
def known_sha256(path: Path, _size: int, _changed: int) -> str:
    """A file's SHA-256, computed once for its size and time of change."""
    return checksums(path)[0]


_remembered: dict[tuple[Path, Path, int, int], Identity] = {}


def identify(path: Path | str, *, always_hash: bool = False) -> Identity:
    """Recognise a weight file. Never raises for a bad file: its Identity then holds the error's line.

    The answer is remembered as long as the file's size and time of change stay the same. ``always_hash`` computes the
    checksum also of files over ``HASH_UP_TO`` bytes and of those whose structure is of no network here.
    """
    path = Path(path)
    try:
        stat = path.stat()
        # The folder too: its name may tell what a file is, and the working folder changes.
        key = path, path.absolute().parent, stat.st_size, stat.st_mtime_ns
        known = _remembered.get(key)
        if known is None or (always_hash and not known.hashed):
            known = _identify(path, stat.st_size, always_hash)
            if len(_remembered) >= _MOST_REMEMBERED:
                _remembered.clear()
            _remembered[key] = known
        return known
    except OSError as error:
        return Identity(path, 0, error=f"Cannot read {path}: {error.strerror or error}.", sound=False, hashed=False)


def _identify(path: Path, size: int, always_hash: bool) -> Identity:
    parts, families, by_shape, problem = {}, (), False, None
    try:
        if may_be_tiny(size):
            file = open_tensor_file(path)
            if parts := find_tiny_parts(file):
                families, by_shape = tell_families(file, parts)
    except TaesdError as error:
        parts, problem = {}, error
    hashed = always_hash or bool(parts) or (size <= HASH_UP_TO and _size_is_official(size))
    official = by_checksum(*checksums(path)) if hashed else None
    if official:
        families, by_shape = (official.family,), False
    kind = next(iter(parts.values())).network.kind if parts else ""
    return Identity(
        path, size, official, tuple(parts), kind, families, by_shape, hashed, str(problem or ""),
        sound=problem is None or isinstance(problem, UnusableWeights),
    )  # fmt: skip


def may_be_tiny(size: int) -> bool:
    """Whether a file of so many bytes may hold a tiny autoencoder."""
    return size <= _LARGEST_TINY


def _size_is_official(size: int) -> bool:
    """Whether an official file can have this size; of some the size is not known."""
    return any(
        row.size == size or (row.size is None and not row.is_tiny and size >= _SMALLEST_OTHER) for row in CATALOG
    )
