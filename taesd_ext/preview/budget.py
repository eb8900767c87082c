"""How a latent is decoded (DecodePolicy), and the chooser that keeps previews within their share of the time.

A preview session uses three things of this file: one :class:`SpeedBook` per codec, kept as long as the codec is, one
:class:`PreviewBudget` per job, and the frozen :class:`DecodePolicy` that goes with each call::

    budget = PreviewBudget(codec.details, book, megapixels, share=0.03, now=clock())
    ...                                                    # at each new step that somebody looks at
    detail = budget.choose(clock(), frames_left=12)        # None: not yet, keep the last frame
    if detail is not None:
        image = codec.decode(latent, detail=detail)
        budget.record(detail, clock() - begun)             # the whole frame: decode, convert, encode
    ...                                                    # the sampler is done
    detail = budget.choose(clock(), last=True)             # None: what is shown already must do

Nothing here reads a clock or a tensor: times come in as numbers, so that all of it can be tested with made-up clocks.
On a GPU take the times from :class:`taesd_ext.codec.stopwatch.Stopwatch`, which does not stall the sampler.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

DETAILS: tuple[str, ...] = ("1/8", "1/4", "1/2", "full")
"""The detail of a decode, cheapest first: the image's side as a part of the full side."""

PREVIEW_SHARE = 0.03
"""The part of the generation time that previews may take, unless the user says otherwise."""

TYPICAL_COST: dict[str, float] = {"1/8": 0.035, "1/4": 0.15, "1/2": 0.5, "full": 1.0}
"""Time of a detail over the time of the full decode, until this machine has measured it (two CPU cores, 512 px)."""

STEP_UP = 0.8
"""A finer detail must fit into this part of the budget: one that fits exactly would flicker to and fro."""

SAMPLES = 9
"""Timings remembered for each detail and size; their median outlives single slow frames."""

FRAME_FLOOR_MS = 0.5
"""No frame is predicted to cost less: a small picture does not make the calls around it cheaper."""


@dataclass(frozen=True)
class DecodePolicy:
    """Everything that a decode may vary in, decided once per call.

    ``dtype`` None is float32 and "auto" leaves it to the device. ``tile`` is "auto" (above a memory budget), "off", or
    the side of a tile in pixels.
    """

    detail: str = "full"
    dtype: torch.dtype | Literal["auto"] | None = None
    device: str = "cpu"
    tile: int | Literal["auto", "off"] = "auto"

    def __post_init__(self) -> None:
        if self.detail not in DETAILS:
            raise ValueError(f"detail is one of {', '.join(DETAILS)}, not {self.detail!r}")
        if not (self.tile in ("auto", "off") or (isinstance(self.tile, int) and self.tile > 0)):
            raise ValueError(f'tile is "auto", "off" or a number of pixels, not {self.tile!r}')


EXACT = DecodePolicy()
"""What a final picture gets: full detail, float32."""


def choose_detail(
    available: Sequence[str],
    measured_ms_by_detail: Mapping[str, float],
    step_ms: float | None,
    budget_share: float = PREVIEW_SHARE,
    interval: int = 1,
    *,
    current: str | None = None,
) -> tuple[str, int]:
    """The finest of the ``available`` details (cheapest first) that fits, and every how many steps to show it.

    A frame every ``interval`` steps of ``step_ms`` may take ``budget_share`` of them. Where even the cheapest detail
    takes more, the interval grows until it fits. What nobody has measured yet (a detail, or the step) is taken to be
    dear: it starts with the cheapest. ``current`` is the detail that is shown now, which needs no margin to stay.
    """
    if not available:
        raise ValueError("no detail is available")
    cheapest = available[0]
    if step_ms is None or step_ms <= 0 or not budget_share > 0:
        return cheapest, interval
    budget_ms = budget_share * step_ms * interval
    detail = finest_within(available, measured_ms_by_detail, budget_ms, current=current)
    if detail is not None:
        return detail, interval
    cost_ms = measured_ms_by_detail.get(cheapest)
    if cost_ms is None:
        return cheapest, interval
    return cheapest, max(interval, math.ceil(cost_ms / (budget_share * step_ms)))


def finest_within(
    available: Sequence[str], ms_by_detail: Mapping[str, float], budget_ms: float, *, current: str | None = None
) -> str | None:
    """The finest measured detail that costs at most ``budget_ms``, or None.

    To step up from ``current`` it must fit with a margin.
    """
    known = available.index(current) if current in available else -1
    for rank in range(len(available) - 1, -1, -1):
        room = budget_ms * STEP_UP if 0 <= known < rank else budget_ms
        if ms_by_detail.get(available[rank], math.inf) <= room:
            return available[rank]
    return None


class SpeedBook:
    """Running medians of what a frame costs, by detail and size; predicts the sizes and details not yet seen.

    One book holds for one codec on one device in one dtype. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._samples: dict[str, dict[float, deque[float]]] = defaultdict(dict)
        self._lock = threading.Lock()

    def record(self, detail: str, megapixels: float, ms: float) -> None:
        """One frame of a picture of so many megapixels (of the full size, whatever the detail) took ``ms``."""
        if not (megapixels > 0 and ms >= 0 and math.isfinite(ms)):
            return
        with self._lock:
            by_size = self._samples[detail]
            by_size.setdefault(round(megapixels, 4), deque(maxlen=SAMPLES)).append(ms)

    def predict(self, detail: str, megapixels: float) -> float | None:
        """Milliseconds that a frame will take, or None while nothing at all is known.

        Between two known sizes it is interpolated; beyond them, time grows with the area. A detail that was never
        measured follows from the nearest measured one by :data:`TYPICAL_COST`.
        """
        with self._lock:
            medians = {name: {size: median(times) for size, times in by_size.items()}
                       for name, by_size in self._samples.items() if by_size}  # fmt: skip
        if detail in medians:
            return _at_size(medians[detail], megapixels)
        wanted = TYPICAL_COST.get(detail)
        relatives = [name for name in medians if name in TYPICAL_COST]
        if wanted is None or not relatives:
            return None
        nearest = min(relatives, key=lambda name: abs(math.log(TYPICAL_COST[name] / wanted)))
        return _at_size(medians[nearest], megapixels) * wanted / TYPICAL_COST[nearest]

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
        self,
        available: Sequence[str],
        book: SpeedBook,
        megapixels: float,
        *,
        share: float = PREVIEW_SHARE,
        now: float,
    ) -> None:
        """``available``: the details that the codec offers, cheapest first. ``megapixels``: of the whole batch."""
        if not available:
            raise ValueError("no detail is available")
        self.available = tuple(available)
        self.share = share
        self.spent = 0.0
        self.frames = 0
        self._book = book
        self._megapixels = megapixels
        self._begun = now
        self._shown: str | None = None

    def choose(self, now: float, *, frames_left: float | None = None, last: bool = False) -> str | None:
        """The detail of a frame decoded now, or None where it would break the budget.

        A frame may take what one has earned so far on average, and its part of what was saved: on that ``frames_left``
        are to live (this one among them; None where nobody knows). So detail grows in the course of a job and can keep
        what it has grown to. ``last`` says that no frame will follow: then everything that is left may be spent, but
        only on a frame that is finer than a cheapest one.
        """
        if not self.share > 0:
            return None
        job = self._job_seconds(now)
        if self._shown is None:
            return None if last else self.available[0]
        costs = self._book.predictions(self.available, self._megapixels)
        left_ms = 1000 * (self.share * job - self.spent)
        if last:
            return finest_within(self.available[1:], costs, left_ms)
        each_ms = 1000 * self.share * job / (self.frames + 1)
        if frames_left is not None:
            each_ms += (left_ms - each_ms) / max(1, frames_left)
        finest = finest_within(self.available, costs, min(left_ms, each_ms), current=self._shown)
        return finest or finest_within(self.available[:1], costs, left_ms)

    def record(self, detail: str, seconds: float) -> None:
        """A frame was made, and took so long in all (decode, convert, encode)."""
        self.spent += seconds
        self.frames += 1
        self._shown = detail
        self._book.record(detail, self._megapixels, 1000 * seconds)

    def _job_seconds(self, now: float) -> float:
        return max(0.0, now - self._begun - self.spent)
