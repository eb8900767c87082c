"""A lock between processes, held on a file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taesd_ext.errors import TaesdError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_POLL_SECONDS = 0.1


@contextmanager
def file_lock(path: Path, *, wait_seconds: float, cancel: threading.Event | None = None) -> Iterator[None]:
    """Hold the lock named by this file while the block runs. The system frees it when a process dies.

    Raises TaesdError when another process holds it for longer than ``wait_seconds``, or when ``cancel`` is set
    meanwhile; OSError when the file cannot be made.
    """
    until = time.monotonic() + wait_seconds
    while (handle := _try(path)) is None:
        if time.monotonic() > until:
            raise TaesdError(
                f"Another process has held {path.name} for {wait_seconds:.0f} seconds",
                "it is downloading the same file",
                "Wait for it, or end it, and try again",
            )
        if (cancel or threading.Event()).wait(_POLL_SECONDS):
            raise TaesdError("Cancelled", "while another process was downloading the same file")
    try:
        yield
    finally:
        # Removed while still held, so that nobody can hold a lock on a file that another one then replaces.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _try(path: Path) -> int | None:
    """A handle that holds the lock, or None when another one has it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o644)
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None
