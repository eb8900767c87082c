"""The measuring core: pieces of work in turn, each timed, the most memory that one took, and a table of it all."""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from taesd_ext.commands.progress import progress
from taesd_ext.models.computing import return_freed_memory

T = TypeVar("T")

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # proc(5), clear_refs: sets the peak of the resident set back to its present size


@dataclass(frozen=True)
class Timed(Generic[T]):
    """What a piece of work returned, and the seconds that it took."""

    result: T
    wall: float
    cpu: float
    """Of all threads of the process: a busy machine disturbs it less."""


def timed(work: Callable[[], T], device: str | torch.device = "cpu") -> Timed[T]:
    """Do it once, and on CUDA wait until it is done."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return Timed(result, time.perf_counter() - wall, time.process_time() - cpu)


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
            return_freed_memory()  # else it would hide what is taken again
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


def in_turn(names: Sequence[str], rounds: int, title: str) -> Iterator[tuple[int, str]]:
    """(round, name): every name once a round, so that what else the machine does meets all of them alike.

    Every other round goes backwards, since who comes second finds the memory warm or fragmented.
    """
    order = [(number, name) for number in range(rounds) for name in (names[::-1] if number % 2 else names)]
    return progress(order, len(order), title, "run")


def median_ratio(own: Iterable[float], base: Iterable[float]) -> float:
    """The median of ``own`` over ``base`` of the same round; where one took part in fewer rounds, over those."""
    return statistics.median(one / max(other, 1e-9) for one, other in zip(own, base, strict=False))


def table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], left: int = 1) -> str:
    """Aligned lines. ``columns``: heading -> a format over a row ("{ms:.1f}"); the first ``left`` are flush left."""
    lines = [list(columns), *([form.format_map(row) for form in columns.values()] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    )


def megabytes(count: int | None) -> str:
    """Of 2**20 bytes."""
    return "-" if count is None else f"{count / 2**20:,.0f} MB"
