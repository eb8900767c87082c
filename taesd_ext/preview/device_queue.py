"""A preview and the device's queue: a latent is taken from under the sampler without waiting for more than it."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor


def shares_queue(device: torch.device) -> bool:
    """Whether our work lies in one queue with the sampler's there, and nothing tells the two apart."""
    return device.type not in ("cpu", "cuda")


class DeviceQueue:
    """Copies latents for previews.

    On CUDA a stream of its own waits for the moment at which the sampler had the latent ready, which :meth:`mark`
    notes in the sampling thread. Other devices have one queue: there the copy waits for what was in it, before any
    time is taken.
    """

    def __init__(self) -> None:
        self._stream_of = cache(torch.cuda.Stream)
        self._ready: tuple[weakref.ref[Tensor], torch.cuda.Event] | None = None

    def mark(self, latent: Tensor) -> None:
        """In the sampling thread: what makes this latent is in the queue now."""
        if latent.device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(latent.device))
            self._ready = weakref.ref(latent), event

    @contextlib.contextmanager
    def copied(self, latent: Tensor, count: int | None, device: torch.device) -> Iterator[Tensor]:
        """A copy of the first ``count`` latents (None = all) of a batch on ``device``, to be worked on inside."""
        if latent.device.type != "cuda":
            copy = latent.detach()[:count].to(device, copy=True)
            if copy.device.type != "cpu":
                copy.flatten()[:1].cpu()  # every device waits here until the copy is there
            yield copy
            return
        stream = self._stream_of(latent.device)
        marked, event = self._ready or (lambda: None, None)
        if event is not None and marked() is latent:
            stream.wait_event(event)
        else:
            stream.wait_stream(torch.cuda.current_stream(latent.device))
        with torch.cuda.stream(stream):
            latent.record_stream(stream)
            yield latent.detach()[:count].to(device, copy=True)


class Stopwatch:
    """Seconds that work took on a device, from when it is made to :meth:`seconds`.

    ``clock`` counts, where a frame ends with a copy to the CPU; on CUDA it is two events in the current stream, so that
    what lies in other streams does not count as long as it does not hold the device up.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._events = None
        if device.type == "cuda":
            self._events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._events[0].record()

    def decoded(self) -> None:
        """All of the work is in the queue."""
        if self._events:
            self._events[1].record()

    def seconds(self) -> float:
        """After the result was copied to the CPU."""
        if not self._events:
            return self._clock() - self._began
        begun, ended = self._events
        ended.synchronize()
        return begun.elapsed_time(ended) / 1000
