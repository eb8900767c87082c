"""Work beside the sampler that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Beside:
    """One piece of work at a time, in a thread of its own; what is offered meanwhile is dropped."""

    def __init__(self) -> None:
        self._working = threading.Lock()

    @property
    def busy(self) -> bool:
        return self._working.locked()

    def offer(self, work: Callable[[], None]) -> bool:
        """Do this, unless something is being done; says whether it will be."""
        if not self._working.acquire(blocking=False):
            return False
        threading.Thread(target=self._run, args=(work,), name="taesd-ext-film", daemon=True).start()
        return True

    def wait(self) -> None:
        """Until nothing is being done."""
        with self._working:
            pass

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._working.release()
