"""What everything that is kept for the user has in common: a bound of memory and a switch."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count

DEFAULT_LIMIT = 64 * 2**20
"""Bytes: about 600 previews of 1024 pixels as JPEG, or 256 latents of such pictures with 16 channels in float16."""


class BoundedStore(ABC):
    """Keeps the newest things within ``limit`` bytes. Any thread may call any method; ``clock`` gives epoch seconds."""

    def __init__(self, limit: int = DEFAULT_LIMIT, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._ids = count(1)
        self._enabled = True

    @property
    def enabled(self) -> bool:
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        """Switched off, what was kept is dropped at once."""
        self._enabled = enabled
        if not enabled:
            self.clear()

    @abstractmethod
    def clear(self) -> None:
        """Drop what is kept."""
