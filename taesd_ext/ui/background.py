"""Long work in a thread of its own, which the page watches and can cancel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from taesd_ext.errors import TaesdError, one_line

Report = Callable[[float, str], None]
"""Called by the work with its progress in [0,1] and a few words."""

_LOOK_EVERY = 0.15


@dataclass(frozen=True)
class Sight:
    """What can be seen of the work now."""

    share: float
    words: str
    done: bool = False
    error: str = ""


class Background:
    """One piece of work at a time. A second one is refused while the first runs."""

    def __init__(self) -> None:
        self._running = threading.Lock()
        self._cancel = threading.Event()

    def cancel(self) -> None:
        self._cancel.set()

    def run(self, work: Callable[[Report, threading.Event], str]) -> Iterator[Sight]:
        """Yield what is seen until the work is done; its return value is the last words.

        Closing the iterator (the page was left) does not stop the work.
        """
        if not self._running.acquire(blocking=False):
            yield Sight(0, "", done=True, error="Something else is still running here. Wait, or cancel it.")
            return
        self._cancel.clear()
        seen = [Sight(0, "")]

        def report(share: float, words: str) -> None:
            seen[0] = Sight(min(1.0, max(0.0, share)), words)

        def body() -> None:
            try:
                seen[0] = Sight(1, work(report, self._cancel), done=True)
            except Exception as error:
                line = str(error) if isinstance(error, TaesdError) else one_line(error)
                seen[0] = Sight(seen[0].share, "", done=True, error=line)
            finally:
                self._running.release()

        threading.Thread(target=body, name="taesd_ext work", daemon=True).start()
        while True:
            sight = seen[0]
            yield sight
            if sight.done:
                return
            time.sleep(_LOOK_EVERY)
