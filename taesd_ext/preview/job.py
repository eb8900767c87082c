"""What a preview session knows of one job: its settings, how far it is, what previews cost, and what has failed."""

from dataclasses import dataclass, field

from taesd_ext.preview.budget import PreviewBudget
from taesd_ext.preview.drawing import LINEAR
from taesd_ext.preview.frame import Frame
from taesd_ext.settings import BUILT_IN, PreviewSettings

_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
"""Seconds for which a way of drawing that failed is left alone: doubled at each failure, up to the longest."""

_FAILURES_TO_STOP = 3
"""So often the last resort may fail in a row before a job's previews are switched off."""


@dataclass(frozen=True)
class Stats:
    """What the previews of the current or last job cost."""

    frames: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    detail: str | None = None

    @property
    def milliseconds(self) -> float:
        """Mean cost of a preview."""
        return 1000 * self.seconds / self.frames if self.frames else 0.0

    @property
    def share(self) -> float:
        """Part of the job's time, in [0,1]."""
        return min(1.0, self.seconds / self.elapsed) if self.elapsed > 0 else 0.0


@dataclass
class Job:
    """What is known of one job; a new one replaces it. Its steps may begin anew, for hires fix and for batches."""

    settings: PreviewSettings
    steps: int
    """Of the current pass."""
    started: float
    ended: float | None = None
    step: int = 0
    """Of the current pass, counted from 1; 0 = none is done."""
    passes: int = 0
    """So often the steps began anew."""
    steps_before: int = 0
    """Steps of the passes that are over."""
    cancelled: bool = False
    frame: Frame | None = None
    drawn_step: int = 0
    drawn_at: float | None = None
    troubled: bool = False
    """Whether anything went wrong, even where another way of drawing helped."""
    failures: int = 0
    resting: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Way of drawing -> (when it may be tried again, the pause before that)."""

    def __post_init__(self) -> None:
        self.budget = PreviewBudget(self.started)

    @property
    def active(self) -> bool:
        return self.ended is None

    @property
    def frames(self) -> int:
        """Previews shown."""
        return self.frame.number if self.frame else 0

    def stats(self, now: float) -> Stats:
        elapsed = (now if self.ended is None else self.ended) - self.started
        return Stats(self.frames, self.budget.spent, elapsed, self.frame.detail if self.frame else None)

    def advance(self, step: int, steps: int | None) -> None:
        """A step is done; a lower one than before begins another pass."""
        if step < self.step:
            self.steps_before += min(self.step, self.steps) if self.steps > 0 else self.step
            self.passes += 1
            self.drawn_step = 0
        if steps is not None:
            self.steps = steps
        self.step = step

    def due(self, now: float) -> bool:
        """Whether a new preview is wanted at ``now``, by all but the budget."""
        settings = self.settings
        if not self.active or self.cancelled or not settings.enabled or settings.family == BUILT_IN:
            return False
        if self.failures >= _FAILURES_TO_STOP or self.step - self.drawn_step < max(1, settings.interval):
            return False
        if settings.skip_last and 0 <= self.steps - self.step < settings.skip_last:
            return False
        return self.drawn_at is None or now - self.drawn_at >= settings.min_time / 1000

    @property
    def frames_left(self) -> float | None:
        """Previews to come, the next one among them, if they go on as often as now; None where nobody can know."""
        if not 0 < self.step <= self.steps:
            return None
        return 1 + (self.steps - self.step) / max(1, self.step - self.drawn_step)

    @property
    def at_last_step(self) -> bool:
        """Whether no step follows, as far as can be known: a sampler that is beyond its steps may go on for long."""
        return self.step == self.steps > 0

    @property
    def progress(self) -> tuple[int, int]:
        """(steps done, steps in all) over all passes begun. Never beyond the last: "57 of 20" helps nobody."""
        step = min(self.step, self.steps) if self.steps > 0 else self.step
        return self.steps_before + step, self.steps_before + self.steps

    @property
    def visible(self) -> Frame | None:
        """The newest frame, unless previews were called off."""
        return None if self.cancelled or not self.settings.enabled else self.frame

    def rests(self, way: str, now: float) -> bool:
        """Whether this way of drawing failed a short while ago."""
        return way in self.resting and now < self.resting[way][0]

    def failed(self, way: str, now: float) -> None:
        """Leave this way of drawing alone for a while, the longer the more often it failed."""
        _, last_pause = self.resting.get(way, (0.0, _FIRST_PAUSE / 2))
        pause = min(2 * last_pause, _LONGEST_PAUSE)
        self.resting[way] = (now + pause, pause)
        self.failures += way == LINEAR
