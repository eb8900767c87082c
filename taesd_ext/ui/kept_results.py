"""Results that a page may ask for again. A ``gr.State`` holds their key only: gradio 3.41 forgets no page's states."""

import threading
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class KeptResults(Generic[T]):
    """The last results of all pages within ``limit`` bytes; the newest stays whatever its size."""

    def __init__(self, limit: int = 128 * 2**20) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._keys = count(1)
        self._kept: dict[int, tuple[T, int]] = {}

    def keep(self, result: T, size: int) -> int:
        """Keep a result of ``size`` bytes; gives its key."""
        with self._lock:
            key = next(self._keys)
            self._kept[key] = (result, size)
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._limit:
                del self._kept[next(iter(self._kept))]
        return key

    def get(self, key: int | None) -> T | None:
        """None where there is none, or no longer."""
        return self._kept.get(key, (None, 0))[0]
