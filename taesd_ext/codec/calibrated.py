"""Whether a decoder file has its reduced details, for lists of files: found once for each file."""

from pathlib import Path

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import native_format
from taesd_ext.weights.folders import cache_folder
from taesd_ext.weights.tiny_file import fits, read_tiny

_MOST_REMEMBERED = 256
_remembered: dict[tuple[object, ...], str] = {}


def details_of_file(family: str, path: Path, *, look: bool = True) -> str | None:
    """ "own", "shipped", or "" for none yet, as ``DecoderHeads.origin``; also "" for what is no decoder of the family.

    Loads the decoder on the CPU, which takes some tenths of a second, unless that was done since the file, or the heads
    that were learnt here, changed; without ``look`` the answer is then None.
    """
    try:
        stat = path.stat()
        key = (family, str(path), stat.st_size, stat.st_mtime_ns, _time_of_change(cache_folder() / "heads"))
        if key not in _remembered:
            if not look:
                return None
            if len(_remembered) >= _MOST_REMEMBERED:
                _remembered.clear()
            _remembered[key] = _found(family, path)
        return _remembered[key]
    except (OSError, TaesdError):
        return ""


def _found(family: str, path: Path) -> str:
    part = read_tiny(path).get("decoder")
    if part is None or not fits(part.network, native_format(family)):
        return ""
    heads = Codec(family, native_format(family), decoder=part.build()).heads
    return heads.origin if heads else ""


def _time_of_change(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
