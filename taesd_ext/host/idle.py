"""Heads for weights that nobody has seen before are learnt while the WebUI has nothing else to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import log, one_line

REST = 20.0
"""Seconds without a job before learning begins: the user may only be thinking."""

GLANCE = 1.0
"""Seconds between two looks at whether a job runs."""


class IdleCalibration:
    """One thread at most, alive only while there is something to learn; it stops at once when a job starts."""

    def __init__(self, is_busy: Callable[[], bool], *, rest: float = REST, glance: float = GLANCE) -> None:
        self._is_busy = is_busy
        self._rest, self._glance = rest, glance
        self._codec: Codec | None = None
        self._tried: list[str] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def want(self, codec: Codec) -> None:
        """This codec draws previews: learn its reduced details some time, unless it has them."""
        source = str(codec.source.decoder)
        with self._lock:
            if self._closed.is_set() or not codec.has_decoder or len(codec.details) > 1 or source in self._tried:
                return
            self._codec = codec
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taesd-ext-calibration", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop, and wait until the thread is gone."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while not self._closed.wait(self._glance):
            if self._is_busy():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= self._rest and self._learn():
                return

    def _learn(self) -> bool:
        """Calibrate the codec wanted last; says whether there is nothing left to do."""
        with self._lock:
            codec = self._codec
        try:
            learnt = codec.calibrate(should_stop=lambda: self._closed.is_set() or self._is_busy())
        except Exception as error:
            log.warning("[TAESD] Reduced detail of %s cannot be learnt: %s", codec.name, one_line(error))
            learnt = False
        with self._lock:
            if not learnt and self._is_busy():
                return False  # a job began: anew when it is done
            self._tried.append(str(codec.source.decoder))
            if self._codec is not codec:
                return False
            self._codec = self._thread = None
            return True
