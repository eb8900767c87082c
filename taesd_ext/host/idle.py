"""Slow learning, done while the WebUI is idle: heads for one's own weights, previewers from finished pictures."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import log, one_line

REST = 20.0
"""Seconds without a job before learning begins: the user may only be thinking."""

PERIOD = 1.0
"""Seconds between two checks of whether a job runs."""


@dataclass(frozen=True)
class _Work:
    key: str
    """What tells it from any other."""
    name: str
    begin: Callable[[], Iterator[object]]


class IdleLearning:
    """One thread at most, alive only while there is something to learn; it pauses at once when a job starts."""

    def __init__(self, is_busy: Callable[[], bool], *, rest: float = REST, period: float = PERIOD) -> None:
        self._is_busy = is_busy
        self._rest, self._period = rest, period
        self._wanted: _Work | None = None
        self._tried: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def want(self, codec: Codec) -> None:
        """This codec draws previews: learn its reduced details some time, unless it has them."""
        if codec.has_decoder and len(codec.details) == 1:
            self.want_work(
                str(codec.source.decoder), f"Reduced detail of {codec.name}", lambda: _learn_heads(codec)
            )

    def want_work(self, key: str, name: str, begin: Callable[[], Iterator[object]]) -> None:
        """Do this some time, in slices, unless it was done before; what was wanted last comes first."""
        with self._lock:
            if self._closed.is_set() or key in self._tried:
                return
            if self._wanted is None or self._wanted.key != key:
                self._wanted = _Work(key, name, begin)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taesd-ext-learning", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop, and wait until the thread is gone."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _run(self) -> None:
        work, slices = None, iter(())
        idle_since = time.monotonic()
        while not self._closed.wait(self._period):
            if self._is_busy():
                idle_since = time.monotonic()
            if time.monotonic() - idle_since < self._rest:
                continue
            if self._wanted is not work:
                work = self._wanted
                slices = work.begin()
            if self._finish(work, slices) and self._is_last(work):
                return

    def _finish(self, work: _Work, slices: Iterator[object]) -> bool:
        """Go on with the work until a job starts; says whether it is done, well or not."""
        try:
            for _ in slices:
                if self._closed.is_set() or self._is_busy():
                    return False
        except Exception as error:
            log.warning("[TAESD] %s cannot be learnt: %s", work.name, one_line(error))
        return True

    def _is_last(self, work: _Work) -> bool:
        with self._lock:
            self._tried.add(work.key)
            if self._wanted is not work:
                return False
            self._wanted = self._thread = None
            return True


def _learn_heads(codec: Codec) -> Iterator[object]:
    from taesd_ext.learning.heads import learn_heads  # few WebUIs ever need it

    return learn_heads(codec)
