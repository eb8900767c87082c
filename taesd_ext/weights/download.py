"""Official weight files from the network: only when a person asks for it, and whole or not at all.

A file grows under a temporary name beside its place and gets its name when its checksum is right. An interrupted
download is resumed the next time. Nothing here runs on import, while sampling, or by itself.

What lies on Hugging Face is asked for as its own library asks: cache, mirror ($HF_ENDPOINT) and token are the person's
own. The library's transfer is not used: only its newest versions show their progress, and none can be cancelled. Nor
are its headers: to build them its newest version asks the server something of its own.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.weights.catalog import HUGGING_FACE, OfficialFile, downloadable, downloads
from taesd_ext.weights.fetch import Cancelled, SourceFailed, Transfer, TransferBroken, bytes_in, fetch
from taesd_ext.weights.identify import checksums, identify

OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
"""The environment variable of the Hugging Face libraries by which a person forbids downloads."""

# Largest size taken from a server where the catalogue has none: about twice the largest known file.
_LARGEST_TINY, _LARGEST_FULL = 64 * 2**20, 8 * 2**30
_SPARE_BYTES = 16 * 2**20
_LONGEST_PAUSE = 30.0
_LOCK_POLL_SECONDS = 0.1
# A line that brings a little each time is worth many rounds, but not all night.
_MOST_ROUNDS = 100


def is_offline() -> bool:
    """Whether the environment forbids downloads."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def download_family(
    family: str, folder: Path | str, transfer: Transfer | None = None, *, offline: bool = False
) -> list[Path]:
    """Download all files of a family, by the first way that works; give the files' paths. Raises TaesdError."""
    ways = downloads(family)
    if not ways:
        raise TaesdError(f"{family} cannot be downloaded", "", f"Choose one of {', '.join(downloadable())}")
    for way in ways:
        paths = [Path(folder) / row.name for row in way]
        if all(path.is_file() and _matches(row, path) for row, path in zip(way, paths, strict=True)):
            return paths
    problems: list[TaesdError] = []
    for way in ways:
        try:
            return [download_file(row, folder, transfer, offline=offline) for row in way]
        except DownloadFailed as error:
            problems.append(error)
    raise problems[0]


class DownloadFailed(TaesdError):
    """No source gave the file."""


def download_file(
    row: OfficialFile, folder: Path | str, transfer: Transfer | None = None, *, offline: bool = False
) -> Path:
    """Download one official file into the folder and give its path; at once where it is already there.

    An older official version is replaced, and no other file of that name. Raises TaesdError: DownloadFailed when no
    source gave it, Cancelled, or what is wrong on this side.
    """
    folder, transfer = Path(folder), transfer or Transfer()
    if not row.has_checksum:
        raise TaesdError(f"{row.name} is not downloaded", "no checksum of it was ever published")
    target = folder / row.name
    try:
        if _is_there(row, target):
            return target
        part = folder / f".{row.name}.part"
        in_cache = filter(None, map(_cached_file, row.sources))
        cached = next((path for path in in_cache if _matches(row, path)), None)
        if not cached and (offline or is_offline()):
            raise TaesdError(
                f"{row.name} is not downloaded",
                "downloads are switched off" if offline else f"{OFFLINE_VARIABLE} is set",
                f"Switch them on, or put the file into {folder} by hand",
            )
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < (row.size or row.rounded_size or 0) + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _lock(folder / f".{row.name}.lock", target, transfer):
            if _is_there(row, target):
                return target
            if cached:
                part.unlink(missing_ok=True)
                shutil.copyfile(cached, part)
                _check(row, part, resumed=True)
            else:
                _from_any(row, part, transfer)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
    except OSError as error:
        raise _local_failure(row, folder, error) from error
    return target


def _is_there(row: OfficialFile, target: Path) -> bool:
    """Whether the file is in place. Raises TaesdError for a stranger there, which is not ours to replace."""
    if not target.exists():
        return False
    if _matches(row, target):
        return True
    official = identify(target, always_hash=True).official
    if official is not None and official.family == row.family and not target.is_symlink():
        return False
    raise TaesdError(f"{target} is not {row}", "the file there is kept", "Move it away, or choose another folder")


def _matches(row: OfficialFile, path: Path) -> bool:
    sha256, git_sha1 = checksums(path)
    return sha256 == row.sha256 if row.sha256 else git_sha1 == row.git_sha1


@contextmanager
def _lock(path: Path, target: Path, transfer: Transfer) -> Iterator[None]:
    """Hold the lock between processes; its file is removed when nobody needs it any more, as the target is there."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path.name} is a link")
    lock = FileLock(path)
    until = time.monotonic() + transfer.lock_wait
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOCK_POLL_SECONDS)
        except Timeout:
            if transfer.cancel.is_set():
                raise Cancelled("Cancelled", "while another process was downloading the same file") from None
            if time.monotonic() > until:
                raise TaesdError(
                    f"Another process has held {path.name} for {transfer.lock_wait:.0f} seconds",
                    "it is downloading the same file",
                    "Wait for it, or end it, and try again",
                ) from None
    try:
        yield
    finally:
        lock.release()
        if target.exists():
            with suppress(OSError):
                path.unlink()


def _cached_file(source: str) -> Path | None:
    """Where the library's cache holds the file of this address, whatever its bytes are."""
    if not source.startswith(HUGGING_FACE):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(*source.removeprefix(HUGGING_FACE).split("/resolve/main/"))
    return Path(found) if isinstance(found, str) else None


def _request_for(source: str) -> tuple[str, dict[str, str], str]:
    """Address, headers, and the host from which plain http is taken, as the person named it as his mirror."""
    if not source.startswith(HUGGING_FACE):
        return source, {}, ""
    from huggingface_hub import constants, get_token

    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = source.replace(HUGGING_FACE, f"{mirror}/", 1) if mirror else source
    return url, headers, urlsplit(mirror).hostname or ""


def _from_any(row: OfficialFile, part: Path, transfer: Transfer) -> None:
    """Fill ``part`` with the right bytes from the first source that has them."""
    left, failures, fruitless = list(row.sources), {}, 0
    for round_ in range(_MOST_ROUNDS):
        pause = min(transfer.first_pause * 2 ** max(0, fruitless - 1), _LONGEST_PAUSE)
        if round_ and transfer.cancel.wait(pause):
            raise Cancelled("Cancelled", "", "Start it again to go on from here")
        before = bytes_in(part)
        for source in list(left):
            try:
                if part.is_symlink():
                    part.unlink()
                resumed = part.exists()
                url, headers, plain_http = _request_for(source)
                limit = row.size or (_LARGEST_TINY if row.is_tiny else _LARGEST_FULL)
                fetch(url, part, transfer, limit=limit, size=row.size, headers=headers, plain_http=plain_http)
                _check(row, part, resumed)
                return
            except (SourceFailed, TransferBroken) as error:
                failures[source] = error
                if isinstance(error, SourceFailed):
                    left.remove(source)
        fruitless = 0 if bytes_in(part) > before else fruitless + 1
        if not left or fruitless >= transfer.attempts:
            break
    reasons = dict.fromkeys(f"{error.what} ({error.why})" if error.why else error.what for error in failures.values())
    cure = next((error.cure for error in failures.values() if error.cure), "Try again later")
    raise DownloadFailed(f"{row.name} could not be downloaded", "; ".join(reasons) or "it has no source", cure)


def _check(row: OfficialFile, part: Path, resumed: bool) -> None:
    if _matches(row, part):
        return
    size = part.stat().st_size
    part.unlink()
    if resumed:
        raise TransferBroken("What was left of an earlier download did not fit", "", "Try again")
    raise SourceFailed(
        "The bytes are not those of the official file",
        f"the checksum of {size:,} bytes is wrong: another version, or damaged or changed on the way; nothing was kept",
        "Try again later, or from another network",
    )


def _local_failure(row: OfficialFile, folder: Path, error: OSError) -> TaesdError:
    what = f"{row.name} cannot be written into {folder}"
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        (folder / f".{row.name}.part").unlink(missing_ok=True)
        return TaesdError(what, "the disk is full", "Make room, or choose another folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return TaesdError(what, "the folder is read-only", "Choose another folder, or change its permissions")
    return TaesdError(what, error.strerror or one_line(error), "Choose another folder")
