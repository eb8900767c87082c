"""Latents on their way from the sampler's device to the CPU, without the sampler waiting for any of them."""

import threading
from collections import deque
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from taesd_ext.models.computing import computing

MOST_UNDER_WAY = 64
"""Latents that may wait for their copy; of more, none is taken: 8 MB of SDXL's at 1024 pixels."""


class LatentCopies:
    """Takes latents in half precision.

    The sampler's queue gets one small copy on the device. From there CUDA brings it to pinned memory in a stream of its
    own; other devices have one queue, in which whoever calls :meth:`settle` waits, and the sampler never does.
    """

    def __init__(self) -> None:
        self._under_way: deque[tuple[Tensor, torch.cuda.Event | None, Callable[[Tensor], None]]] = deque()
        self._stream_of = cache(torch.cuda.Stream)
        self._lock = threading.Lock()

    def take(self, latent: Tensor, arrived: Callable[[Tensor], None]) -> None:
        """In the sampling thread: ``arrived`` is given a float16 copy of the latent on the CPU, now or by settle()."""
        with computing(latent.device):
            half = latent.detach().to(torch.float16, copy=True)
            if half.device.type == "cpu":
                arrived(half)
                return
            self.settle(only_ready=True)
            if len(self._under_way) < MOST_UNDER_WAY:
                copy, event = self._sent(half) if half.device.type == "cuda" else (half, None)
                self._under_way.append((copy, event, arrived))

    def settle(self, only_ready: bool = False) -> None:
        """Hand over the copies that are there; all of them, and wait, unless only those that are ready."""
        if not self._lock.acquire(blocking=not only_ready):
            return
        try:
            while self._under_way:
                copy, event, arrived = self._under_way[0]
                if only_ready and not (event and event.query()):
                    return
                if event:
                    event.synchronize()
                self._under_way.popleft()
                with computing("cpu"):
                    arrived(copy.to("cpu", copy=True))  # pinned memory is dear
        finally:
            self._lock.release()

    def _sent(self, half: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        stream = self._stream_of(half.device)
        stream.wait_stream(torch.cuda.current_stream(half.device))
        with torch.cuda.stream(stream):
            half.record_stream(stream)
            pinned = torch.empty(half.shape, dtype=half.dtype, pin_memory=True)
            pinned.copy_(half, non_blocking=True)
            event = torch.cuda.Event()
            event.record(stream)
        return pinned, event
