"""PreviewSession: when a running job's latent is decoded, at what detail, and what happens when that fails."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.latent_formats import LATENT_FORMATS, Detection, LatentFormat, native_format, to_family_latent
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb
from taesd_ext.preview.frame import Frame, PreviewImage, grid_shape, limited, preview_image
from taesd_ext.settings import AUTO, BUILT_IN, DETAILS, PreviewSettings

_T = TypeVar("_T")

LINEAR = "linear"
"""The detail of a preview that no decoder made."""

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


@dataclass(frozen=True)
class _Drawn:
    image: PreviewImage
    full_size: tuple[int, int]
    detail: str
    family: str | None


@dataclass
class _Job:
    """What is known of one job; a new one replaces it."""

    settings: PreviewSettings
    steps: int
    started: float
    step: int = 0
    stepped: float | None = None
    active: bool = True
    cancelled: bool = False
    frame: Frame | None = None
    drawn_step: int = 0
    drawn_at: float | None = None
    frames: int = 0
    spent: float = 0.0
    failures: int = 0
    resting: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Way of drawing -> (when it may be tried again, the pause before that)."""


class PreviewSession:
    """The previews of one job after another.

    ``codec_for(family)`` gives a loaded codec or raises TaesdError; it must be quick, and must not load anything when
    called from a sampling thread. Every method may be called from any thread, and none raises.
    """

    def __init__(self, codec_for: Callable[[str], Codec], clock: Callable[[], float] = time.perf_counter) -> None:
        self._codec_for = codec_for
        self._clock = clock
        self._state_lock = threading.Lock()
        self._decode_lock = threading.Lock()
        self._suspensions = 0
        self._costs: dict[tuple[str, int], float] = {}
        self._job = _Job(PreviewSettings(), 0, clock(), active=False)
        self._finished_after = 0.0
        self.last_error: str | None = None
        """What went wrong last, in one line with its cure; kept until a job ends well."""

    def start(self, settings: PreviewSettings, steps: int) -> None:
        """Begin a job of so many steps; the last one's frame is forgotten."""
        with self._state_lock:
            self._job = _Job(settings, steps, self._clock())

    def step(self, step: int, steps: int | None = None) -> None:
        """A sampling step is done (counted from 1). Only takes the time.

        A lower step than before begins another pass, as hires fix and batches do, of ``steps`` steps if given.
        """
        with self._state_lock:
            job = self._job
            if step < job.step:
                job.drawn_step = 0
            if steps is not None:
                job.steps = steps
            job.step = step
            job.stepped = self._clock()

    def update(self, settings: PreviewSettings) -> None:
        """Change the running job's settings, at once."""
        with self._state_lock:
            self._job.settings = settings
            self._job.resting.clear()

    def cancel(self) -> None:
        """No more previews for this job, not even one that is being decoded."""
        with self._state_lock:
            self._job.cancelled = True

    def finish(self) -> None:
        """The job is over; its last frame stays."""
        with self._state_lock:
            if self._job.active:
                self._job.active = False
                self._finished_after = self._clock() - self._job.started

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """No preview is decoded inside: a final decode has the machine for itself. Waits for a running one."""
        with self._state_lock:
            self._suspensions += 1
        try:
            with self._decode_lock:
                pass
            yield
        finally:
            with self._state_lock:
                self._suspensions -= 1

    @property
    def stats(self) -> Stats:
        with self._state_lock:
            job = self._job
            elapsed = self._clock() - job.started if job.active else self._finished_after
            return Stats(job.frames, job.spent, elapsed, job.frame.detail if job.frame else None)

    @property
    def settings(self) -> PreviewSettings:
        return self._job.settings

    @property
    def frame(self) -> Frame | None:
        """The newest frame of the current or last job."""
        return self._job.frame

    def poll(self, latent: Tensor | None, detection: Detection, *, grid: bool = False) -> Frame | None:
        """The job's newest frame; None while there is none. A new one has a new ``number``.

        Decodes when a new preview is due, at most once a step and in one thread at a time: who comes meanwhile gets
        the frame before. ``latent`` is the sampler's own tensor, (B,C,h,w) or with frames; it is only read.
        """
        try:
            return self._poll(latent, detection, grid)
        except Exception as error:
            self._note(error)
            return self._job.frame

    def _poll(self, latent: Tensor | None, detection: Detection, grid: bool) -> Frame | None:
        if not self._decode_lock.acquire(blocking=False):
            return self._visible(self._job)
        try:
            with self._state_lock:
                job = self._job
                step, settings, due = job.step, job.settings, self._due(job)
            if latent is None or not due:
                return self._visible(job)
            samples = latent.detach()[: None if grid else 1].clone()
            started = self._clock()
            drawn = self._draw(job, settings, samples, detection)
            with self._state_lock:
                job.drawn_step, job.drawn_at = step, self._clock()
                job.spent += job.drawn_at - started
                if drawn and not job.cancelled:
                    job.failures = 0
                    job.frames += 1
                    milliseconds = 1000 * (job.drawn_at - started)
                    job.frame = Frame(
                        job.frames, step, drawn.image, drawn.full_size, drawn.detail, drawn.family, milliseconds
                    )
            return self._visible(job)
        finally:
            self._decode_lock.release()

    @staticmethod
    def _visible(job: _Job) -> Frame | None:
        return None if job.cancelled or not job.settings.enabled else job.frame

    def _due(self, job: _Job) -> bool:
        settings = job.settings
        if not job.active or job.cancelled or self._suspensions or not settings.enabled or settings.family == BUILT_IN:
            return False
        if job.failures >= _FAILURES_TO_STOP or job.step - job.drawn_step < max(1, settings.interval):
            return False
        if settings.skip_last and job.steps - job.step < settings.skip_last:
            return False
        now = self._clock()
        if job.drawn_at is not None:
            if now - job.drawn_at < settings.min_time / 1000:
                return False
            if settings.budget and job.spent + job.spent / max(1, job.frames) > self._allowance(job, now):
                return False
        return True

    @staticmethod
    def _allowance(job: _Job, now: float) -> float:
        """Seconds that the job's previews may have taken by the end of the step that runs."""
        elapsed = now - job.started
        step_time = (job.stepped - job.started) / job.step if job.stepped and job.step else 0.0
        return job.settings.budget / 100 * (elapsed + step_time)

    def _draw(self, job: _Job, settings: PreviewSettings, samples: Tensor, detection: Detection) -> _Drawn | None:
        """The first way that works: the decoder, at less detail where it fails, then the linear preview."""
        family = detection.family if settings.family == AUTO else settings.family
        with torch.inference_mode():
            if family is None:
                self._note(_no_decoder(detection))
            elif codec := self._try(job, "codec", partial(self._codec_for, family)):
                fits = detection.format and detection.family == family
                latent_format = detection.format if fits else native_format(family)
                size = _full_size(samples, latent_format)
                for detail in _details(codec, settings, size):
                    if picture := self._try(
                        job, detail, partial(self._decoded, codec, settings, samples, latent_format, detail)
                    ):
                        return _Drawn(picture, limited(size, settings.max_side), detail, family)
            linear = _linear_format(samples, detection)
            if linear and (picture := self._try(job, LINEAR, partial(_linear_picture, settings, samples, linear))):
                return _Drawn(picture, limited(_full_size(samples, linear), settings.max_side), LINEAR, None)
        return None

    def _try(self, job: _Job, way: str, make: Callable[[], _T]) -> _T | None:
        """What ``make`` gives, or None where it fails or failed a short while ago."""
        now = self._clock()
        retry_at, pause = job.resting.get(way, (now, _FIRST_PAUSE / 2))
        if now < retry_at:
            return None
        try:
            made = make()
        except Exception as error:
            pause = min(2 * pause, _LONGEST_PAUSE)
            job.resting[way] = (now + pause, pause)
            job.failures += way == LINEAR
            self._note(error)
            return None
        job.resting.pop(way, None)
        return made

    def _decoded(
        self, codec: Codec, settings: PreviewSettings, samples: Tensor, latent_format: LatentFormat, detail: str
    ) -> PreviewImage:
        started = self._clock()
        latent = to_family_latent(samples, latent_format)
        image = codec.decode(latent) if detail == "full" else codec.decode(latent, detail=detail)
        if torch.isnan(image.sum(dtype=torch.float32)):
            raise TaesdError(f"{codec.name} made a preview that is no picture", "the decoder's output is NaN")
        picture = preview_image(image, max_side=settings.max_side, frame_format=settings.frame_format)
        self._measured(detail, image.shape, self._clock() - started)
        return picture

    def _measured(self, detail: str, shape: torch.Size, seconds: float) -> None:
        """Remember what a detail costs at a size: half the last time, half those before."""
        key = (detail, shape[0] * shape[-2] * shape[-1])
        self._costs[key] = (self._costs.get(key, seconds) + seconds) / 2

    def _note(self, error: Exception) -> None:
        self.last_error = one_line(error)
        log_once(f"preview {self.last_error}", self.last_error)


def _no_decoder(detection: Detection) -> TaesdError:
    what = (
        f"There is no tiny decoder for {detection.format.title} yet" if detection.format else "No tiny decoder chosen"
    )
    return TaesdError(what, detection.reason, "A rough preview is shown where one is known")


def _full_size(samples: Tensor, latent_format: LatentFormat) -> tuple[int, int]:
    """(width, height) of the finished picture or grid of pictures."""
    factor = latent_format.spatial_scale_factor
    if samples.shape[1] != latent_format.latent_channels:
        factor *= latent_format.packed
    rows, columns = grid_shape(len(samples))
    return columns * samples.shape[-1] * factor, rows * samples.shape[-2] * factor


def _details(codec: Codec, settings: PreviewSettings, size: tuple[int, int]) -> list[str]:
    """Details to try: the one chosen, unless a lesser one still fills ``max_side``, then the lesser ones."""
    offered = [detail for detail in DETAILS if detail in getattr(codec, "details", ("full",))]
    rank = 0 if settings.detail == AUTO else DETAILS.index(settings.detail)
    while settings.max_side and rank < len(DETAILS) - 1 and max(size) >> (rank + 1) >= settings.max_side:
        rank += 1
    return [detail for detail in offered if DETAILS.index(detail) >= rank] or offered[-1:]


def _linear_format(samples: Tensor, detection: Detection) -> LatentFormat | None:
    """The format whose linear preview fits: the known one, else any with as many channels."""
    for row in (detection.format,) if detection.format else LATENT_FORMATS:
        if row.rgb in LATENT_RGB and row.accepts(samples.shape[1]):
            return row
    return None


def _linear_picture(settings: PreviewSettings, samples: Tensor, latent_format: LatentFormat) -> PreviewImage:
    image = latent_to_rgb(to_family_latent(samples, latent_format), latent_format.rgb)
    if torch.isnan(image.sum()):
        raise TaesdError("The latent is no picture", "it holds NaN")
    return preview_image(image, max_side=settings.max_side, frame_format=settings.frame_format)
