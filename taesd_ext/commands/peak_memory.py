"""The most memory that a piece of work took beyond what was taken before it."""

import contextlib
import ctypes
import gc
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # proc(5), clear_refs: sets the peak of the resident set back to its present size


class PeakMemory:
    """``with PeakMemory(device) as memory: ...; memory.bytes``, None where this system does not tell.

    On CUDA what torch's allocator held at most. On a CPU the peak of the process's resident memory as Linux counts
    it, other threads included; weights are not in it, since they were there before.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._before: int | None = None
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif self._device.type == "cpu":
            with contextlib.suppress(OSError, AttributeError):
                # Freed memory that the C library keeps would hide what is taken again.
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            self._before = _resident("VmRSS")
            with contextlib.suppress(OSError):
                (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            peak: int | None = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = _resident("VmHWM")
        if self._before is not None and peak is not None:
            self.bytes = max(0, peak - self._before)


def _resident(field: str) -> int | None:
    """A line of Linux's account of this process, in bytes."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
