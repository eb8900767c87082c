"""Keeps previews within their share of the time: what a frame costs, and how fine the next one may be.

A preview session uses one :class:`SpeedBook` per painter, kept as long as that is, and a :class:`PreviewBudget` per
job. Nothing here reads a clock or a tensor: times come in as numbers.
"""

import math
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from statistics import median

TYPICAL_COST: dict[str, float] = {"embedded": 0.02, "1/8": 0.035, "1/4": 0.15, "1/2": 0.5, "full": 1.0}
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

    def predict(self, detail: str, megapixels: float) -> float:
        """Milliseconds that a frame will take; infinite while nothing at all is known.

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
        relatives = [name for name in known if name in TYPICAL_COST]
        if detail not in TYPICAL_COST or not relatives:
            return math.inf
        times = {name: TYPICAL_COST[detail] / TYPICAL_COST[name] for name in relatives}
        nearest = min(relatives, key=lambda name: abs(math.log(times[name])))
        return _at_size(known[nearest], megapixels) * times[nearest]

    def costs(self, details: Sequence[str], megapixels: float) -> dict[str, float]:
        """Milliseconds by detail."""
        return {detail: self.predict(detail, megapixels) for detail in details}


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
    """

    def __init__(self, now: float) -> None:
        self.spent = 0.0
        self._frames = 0
        self._begun = now
        self._room_ms = 0.0
        self._shown: str | None = None

    def choose(
        self, now: float, share: float, costs: Mapping[str, float], *, frames_left: float | None = None,
        last: bool = False,
    ) -> str | None:  # fmt: skip
        """The detail of a frame decoded now, or None where it would break the budget.

        ``costs``: milliseconds of each detail on offer, infinite where nobody knows, the cheapest detail first. A frame
        may take what one has earned so far on average, and its part of what was saved: on that ``frames_left`` are to
        live (this one among them; None where nobody knows). So detail grows in the course of a job and can keep what it
        has grown to. ``last`` says that no frame will follow: then everything that is left may be spent, but only on a
        frame that is finer than a cheapest one.
        """
        details, job = list(costs), max(0.0, now - self._begun - self.spent)
        if self._shown not in costs or min(costs.values()) == math.inf:
            return None if last else details[0]
        left_ms = 1000 * (share * job - self.spent)
        if last:
            return self._finest(costs, left_ms, details[1:])
        each_ms = 1000 * share * job / (self._frames + 1)
        if frames_left is not None:
            each_ms += (left_ms - each_ms) / max(1, frames_left)
        return self._finest(costs, min(left_ms, each_ms), details) or self._finest(costs, left_ms, details[:1])

    def _finest(self, costs: Mapping[str, float], budget_ms: float, details: Sequence[str]) -> str | None:
        """The finest detail that costs at most so much; one finer than that shown now must fit with a margin."""
        order = list(costs)
        self._room_ms = budget_ms
        for detail in reversed(details):
            finer = order.index(detail) > order.index(self._shown)
            if costs[detail] <= (budget_ms * STEP_UP if finer else budget_ms):
                return detail
        return None

    def frames_of_film(self, each_ms: float) -> int:
        """How many frames of a film a preview may have that cost so much each, at the detail chosen or a cheaper one:
        at least 1."""
        return max(1, int(self._room_ms / each_ms))

    def record(self, detail: str, seconds: float) -> None:
        """A preview was made; so much of the time was its own."""
        self.spent += seconds
        self._frames += 1
        self._shown = detail
