"""Heads for weights that nobody has seen before are learnt while the WebUI has nothing else to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import log, one_line
from taesd_ext.learning.heads import learn_heads

REST = 20.0
"""Seconds without a job before learning begins: the user may only be thinking."""

PERIOD = 1.0
"""Seconds between two checks of whether a job runs."""


class IdleLearning:
    """One thread at most, alive only while there is something to learn; it pauses at once when a job starts."""

    def __init__(self, is_busy: Callable[[], bool], *, rest: float = REST, period: float = PERIOD) -> None:
        self._is_busy = is_busy
        self._rest, self._period = rest, period
        self._wanted: Codec | None = None
        self._tried: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def want(self, codec: Codec) -> None:
        """This codec draws previews: learn its reduced details some time, unless it has them."""
        source = str(codec.source.decoder)
        with self._lock:
            if self._closed.is_set() or not codec.has_decoder or len(codec.details) > 1 or source in self._tried:
                return
            self._wanted = codec
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
        codec, work = None, iter(())
        idle_since = time.monotonic()
        while not self._closed.wait(self._period):
            if self._is_busy():
                idle_since = time.monotonic()
            if time.monotonic() - idle_since < self._rest:
                continue
            if self._wanted is not codec:
                codec = self._wanted
                work = learn_heads(codec)
            if self._finish(codec, work) and self._is_last(codec):
                return

    def _finish(self, codec: Codec, work: Iterator[float]) -> bool:
        """Go on with the work until a job starts; says whether it is done, well or not."""
        try:
            for _ in work:
                if self._closed.is_set() or self._is_busy():
                    return False
        except Exception as error:
            log.warning("[TAESD] Reduced detail of %s cannot be learnt: %s", codec.name, one_line(error))
        return True

    def _is_last(self, codec: Codec) -> bool:
        with self._lock:
            self._tried.add(str(codec.source.decoder))
            if self._wanted is not codec:
                return False
            self._wanted = self._thread = None
            return True
