"""Times work on any device without making it wait."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Seconds between :meth:`start` and :meth:`stop` as the device saw them.

    On CUDA two events are put into the current stream; the work of the sampler that was queued before them does not
    count, and nothing waits: :meth:`seconds` is None until the device has passed the second one. Elsewhere it is the
    wall clock, where a frame ends with a copy to the CPU, which has waited for the device already.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._events = None
        if torch.device(device).type == "cuda":
            self._events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._begun = self._ended = 0.0

    def start(self) -> Stopwatch:
        if self._events:
            self._events[0].record()
        else:
            self._begun = time.perf_counter()
        return self

    def stop(self) -> Stopwatch:
        if self._events:
            self._events[1].record()
        else:
            self._ended = time.perf_counter()
        return self

    def seconds(self) -> float | None:
        """The time measured, or None while the device is still at it; ask again at the next step."""
        if not self._events:
            return self._ended - self._begun
        begun, ended = self._events
        return begun.elapsed_time(ended) / 1000 if ended.query() else None
