"""Keeps previews within their share of the time: what a frame costs, and how fine the next one may be.

A preview session uses one :class:`SpeedBook` per painter, kept as long as that is, and one :class:`PreviewBudget` per
job. Nothing here reads a clock or a tensor: times come in as numbers.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from statistics import median

TYPICAL_COST: dict[str, float] = {"1/8": 0.035, "1/4": 0.15, "1/2": 0.5, "full": 1.0}
"""Time of a detail over the time of the full decode, until this machine has measured it (two CPU cores, 512 px)."""

STEP_UP = 0.8
"""A finer detail must fit into this part of the budget: one that fits exactly would flicker to and fro."""

SAMPLES = 9
"""Timings remembered for each detail and size."""

SHARED_SAMPLES = 4
"""Timings without which nothing is believed on a device whose queue holds others' work."""

FRAME_FLOOR_MS = 0.5
"""No frame is predicted to cost less: a small picture does not make the calls around it cheaper."""


class SpeedBook:
    """What a frame costs, by detail and size; predicts the sizes and details not yet seen.

    One book holds for one painter on one device in one dtype. Safe to use from several threads.
    """

    def __init__(self, *, shared_queue: bool = False) -> None:
        """``shared_queue``: timings may hold others' work on the device. Then the least of the last ones is believed,
        which holds the least of that; else their median, which outlives single slow frames.

        Such devices compile what they have not computed before, and others' work may lie in any timing: the first
        frames of a detail and size are not counted, and nothing is predicted from them.
        """
        self._shared_queue = shared_queue
        self._typical = min if shared_queue else median
        self._samples: dict[str, dict[float, deque[float]]] = defaultdict(dict)
        self._lock = threading.Lock()

    def record(self, detail: str, megapixels: float, ms: float) -> float:
        """One frame of a picture of so many megapixels (of the full size, whatever the detail) took ``ms``.

        Gives the milliseconds of it that count as the frame's own.
        """
        if not (megapixels > 0 and ms >= 0 and math.isfinite(ms)):
            return ms
        with self._lock:
            by_size, size = self._samples[detail], round(megapixels, 4)
            times = by_size.setdefault(size, deque(maxlen=SAMPLES))
            times.append(ms)
            if not self._shared_queue:
                return ms
            return min(times) if len(times) >= SHARED_SAMPLES else 0.0

    def predict(self, detail: str, megapixels: float) -> float | None:
        """Milliseconds that a frame will take, or None while nothing at all is known.

        Between two known sizes it is interpolated; beyond them, time grows with the area. A detail that was never
        measured follows from the nearest measured one by :data:`TYPICAL_COST`.
        """
        with self._lock:
            least = SHARED_SAMPLES if self._shared_queue else 1
            known = {name: {size: self._typical(times) for size, times in by_size.items() if len(times) >= least}
                     for name, by_size in self._samples.items()}  # fmt: skip
            known = {name: by_size for name, by_size in known.items() if by_size}
        if detail in known:
            return _at_size(known[detail], megapixels)
        wanted = TYPICAL_COST.get(detail)
        relatives = [name for name in known if name in TYPICAL_COST]
        if wanted is None or not relatives:
            return None
        nearest = min(relatives, key=lambda name: abs(math.log(TYPICAL_COST[name] / wanted)))
        return _at_size(known[nearest], megapixels) * wanted / TYPICAL_COST[nearest]

    def predictions(self, details: Sequence[str], megapixels: float) -> dict[str, float]:
        """Milliseconds by detail, of those that can be predicted."""
        predicted = {detail: self.predict(detail, megapixels) for detail in details}
        return {detail: ms for detail, ms in predicted.items() if ms is not None}


def _at_size(ms_by_size: Mapping[float, float], megapixels: float) -> float:
    known = sorted(ms_by_size)
    smaller = max((size for size in known if size <= megapixels), default=None)
    larger = min((size for size in known if size >= megapixels), default=None)
    if smaller is None or larger is None:
        nearest = known[0] if smaller is None else known[-1]
        return max(ms_by_size[nearest] * megapixels / nearest, FRAME_FLOOR_MS)
    if smaller == larger:
        return ms_by_size[smaller]
    part = (megapixels - smaller) / (larger - smaller)
    return ms_by_size[smaller] * (1 - part) + ms_by_size[larger] * part


class PreviewBudget:
    """The ledger of one job: what previews have taken, and whether and how fine the next one may be.

    All times are seconds of one clock of the caller's. The share is counted against the time that the job would have
    taken without previews, so that 0.03 means "at most 1.03 times as long". At any moment the previews have taken at
    most that share plus one preview: the first frame, which is the cheapest, is shown on credit, and so is the excess
    of a frame that took longer than predicted.

    A job may have several ledgers, for a model or a size that changed: ``spent`` (seconds) and ``frames``, of all of
    them together, may be set.
    """

    def __init__(
        self, available: Sequence[str], book: SpeedBook, megapixels: float, *, share: float, now: float,
        least_frames: int = 1,
    ) -> None:  # fmt: skip
        """``available``: the details on offer, cheapest first. ``megapixels``: of the whole batch, or of one frame of a
        film, of which a preview is to show ``least_frames`` or more."""
        self.available = tuple(available)
        self.share = share
        self.spent = 0.0
        self.frames = 0
        self._book = book
        self._megapixels = megapixels
        self._least_frames = least_frames
        self._begun = now
        self._room_ms = 0.0
        self._shown: str | None = None

    def choose(self, now: float, *, frames_left: float | None = None, last: bool = False) -> str | None:
        """The detail of a frame decoded now, or None where it would break the budget.

        A frame may take what one has earned so far on average, and its part of what was saved: on that ``frames_left``
        are to live (this one among them; None where nobody knows). So detail grows in the course of a job and can keep
        what it has grown to. ``last`` says that no frame will follow: then everything that is left may be spent, but
        only on a frame that is finer than a cheapest one.
        """
        job = max(0.0, now - self._begun - self.spent)
        costs = self._book.predictions(self.available, self._megapixels * self._least_frames)
        if self._shown is None or not costs:
            return None if last else self.available[0]
        left_ms = 1000 * (self.share * job - self.spent)
        if last:
            return self._finest(costs, left_ms, self.available[1:])
        each_ms = 1000 * self.share * job / (self.frames + 1)
        if frames_left is not None:
            each_ms += (left_ms - each_ms) / max(1, frames_left)
        finest = self._finest(costs, min(left_ms, each_ms), self.available)
        return finest or self._finest(costs, left_ms, self.available[:1])

    def _finest(self, costs: Mapping[str, float], budget_ms: float, details: Sequence[str]) -> str | None:
        """The finest detail that costs at most so much; one finer than that shown now must fit with a margin."""
        shown = self.available.index(self._shown)
        self._room_ms = budget_ms
        for detail in reversed(details):
            room = budget_ms * STEP_UP if self.available.index(detail) > shown else budget_ms
            if costs.get(detail, math.inf) <= room:
                return detail
        return None

    def frames_of_film(self, detail: str, most: int) -> int:
        """How many frames of a film, 1 to ``most``, a preview may have, at the detail chosen or a cheaper one."""
        each_ms = self._book.predict(detail, self._megapixels)
        return 1 if each_ms is None else max(1, min(most, int(self._room_ms / each_ms)))

    def record(self, detail: str, seconds: float, frames: int = 1) -> float:
        """A preview was made, of so many frames of a film, and took so long in all (decode, convert, encode).

        Gives the seconds that are counted.
        """
        counted = self._book.record(detail, self._megapixels * frames, 1000 * seconds) / 1000
        self.spent += counted
        self.frames += 1
        self._shown = detail
        return counted
