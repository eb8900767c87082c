"""PreviewSession: when a running job's latent is decoded, at what detail, and what happens when that fails."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.stopwatch import Stopwatch
from taesd_ext.errors import log_once, one_line
from taesd_ext.latent_formats import Detection, LatentFormat
from taesd_ext.preview.budget import PreviewBudget, SpeedBook
from taesd_ext.preview.drawing import (
    LINEAR,
    Drawn,
    Subject,
    draw_linear,
    embedded_format,
    linear_format,
    no_decoder,
    subject_format,
)
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.job import Job, Stats
from taesd_ext.settings import AUTO, PreviewSettings

_T = TypeVar("_T")


class _NotYetError(Exception):
    """The budget does not allow a preview now."""


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
        self._books: weakref.WeakKeyDictionary[Codec | LatentFormat, SpeedBook] = weakref.WeakKeyDictionary()
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._job = Job(PreviewSettings(), 0, clock(), active=False)
        self._finished_after = 0.0
        self.last_error: str | None = None
        """What went wrong last, in one line with its cure; kept until a job ends that had previews and no trouble."""

    def start(self, settings: PreviewSettings, steps: int) -> None:
        """Begin a job of so many steps; the last one's frame is forgotten."""
        with self._state_lock:
            self._job = Job(settings, steps, self._clock())

    def step(self, step: int, steps: int | None = None) -> None:
        """A sampling step is done (counted from 1). Only takes the time.

        A lower step than before begins another pass, as hires fix and batches do, of ``steps`` steps if given.
        Samplers that ask their model more often than they say go on counting beyond ``steps``.
        """
        with self._state_lock:
            job = self._job
            if step < job.step:
                job.passes += 1
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
                if self._job.frames and not self._job.troubled:
                    self.last_error = None

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
    def active(self) -> bool:
        """Whether a job was started and not finished."""
        return self._job.active

    @property
    def settings(self) -> PreviewSettings:
        return self._job.settings

    @property
    def progress(self) -> tuple[int, int]:
        """(steps done, steps in all) of the current or last job's pass."""
        job = self._job
        return job.shown_step, job.steps

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
            return self._job.visible
        try:
            with self._state_lock:
                job = self._job
                step, shown_step, passes, settings = job.step, job.shown_step, job.passes, job.settings
                due = not self._suspensions and job.due(self._clock())
            if latent is None or not due:
                return job.visible
            samples = latent.detach()[: None if grid else 1].clone()
            started = self._clock()
            try:
                with torch.inference_mode(), self._beside_the_sampler(samples):
                    drawn = self._draw(job, settings, samples, detection)
            except _NotYetError:
                return job.visible
            with self._state_lock:
                job.drawn_at = self._clock()
                if job.passes == passes:  # else another began meanwhile, and none of its steps is drawn
                    job.drawn_step = step
                if drawn and not job.cancelled:
                    job.failures = 0
                    job.frames += 1
                    milliseconds = 1000 * (job.drawn_at - started)
                    job.frame = Frame(
                        job.frames, shown_step, drawn.image, drawn.full_size, drawn.detail, drawn.family, milliseconds
                    )
            return self._job.visible  # another may have begun meanwhile: this frame is not its
        finally:
            self._decode_lock.release()

    def _draw(self, job: Job, settings: PreviewSettings, samples: Tensor, detection: Detection) -> Drawn | None:
        """The first way that works: the decoder, at less detail where it fails, then the ways without one.

        None when all fail; raises _NotYetError when the budget does not allow a preview now.
        """
        family = detection.family if settings.family == AUTO else settings.family
        if family is None:
            self._note(no_decoder(detection))
        elif codec := self._try(job, "codec", partial(self._codec_for, family)):
            subject = Subject(codec, subject_format(family, detection), samples, settings)
            if drawn := self._draw_subject(job, subject):
                return drawn
        row = embedded_format(samples, detection)
        if row and (drawn := self._draw_subject(job, Subject(None, row, samples, settings))):
            return drawn
        if row := linear_format(samples, detection):
            return self._try(job, LINEAR, partial(draw_linear, row, samples, settings))
        return None

    def _draw_subject(self, job: Job, subject: Subject) -> Drawn | None:
        """The most detail that the budget allows, or less where that fails."""
        details = subject.details
        if all(job.rests(detail, self._clock()) for detail in details):
            return None
        budget = self._budget(job, subject)
        if budget:
            details = details[details.index(self._chosen(job, budget)) :]
        for detail in details:
            if drawn := self._try(job, detail, partial(self._drawn, job, budget, subject, detail)):
                return drawn
        return None

    def _try(self, job: Job, way: str, make: Callable[[], _T]) -> _T | None:
        """What ``make`` gives, or None where it fails or failed a short while ago."""
        if job.rests(way, self._clock()):
            return None
        try:
            made = make()
        except Exception as error:
            job.failed(way, self._clock())
            self._note(error)
            return None
        job.resting.pop(way, None)
        return made

    def _drawn(self, job: Job, budget: PreviewBudget | None, subject: Subject, detail: str) -> Drawn:
        started = self._clock()
        watch = Stopwatch(subject.device)
        drawn = subject.draw(detail, watch)
        on_gpu = subject.device.type == "cuda" and watch.seconds()
        seconds = on_gpu or self._clock() - started
        job.spent += seconds
        if budget:
            budget.record(detail, seconds)
        return drawn

    def _budget(self, job: Job, subject: Subject) -> PreviewBudget | None:
        """The job's ledger for this model at this size; None when the user sets no limit."""
        percent = subject.settings.budget
        if not percent:
            return None
        details = subject.details if subject.settings.detail == AUTO else subject.details[:1]
        made_for = (subject.painter, details, subject.whole_size, percent)
        if made_for not in job.budgets:
            book = self._books.setdefault(subject.painter, SpeedBook())
            width, height = subject.whole_size
            job.budgets[made_for] = PreviewBudget(
                details[::-1], book, width * height / 1e6, share=percent / 100, now=job.started
            )
        budget = job.budgets[made_for]
        budget.spent, budget.frames = job.spent, job.frames
        return budget

    def _chosen(self, job: Job, budget: PreviewBudget) -> str:
        # Only a finer frame is worth the rest of the budget: with one detail the last step is like any other.
        last = job.at_last_step and job.frame is not None and len(budget.available) > 1
        chosen = budget.choose(self._clock(), frames_left=job.frames_left, last=last)
        if chosen is None:
            raise _NotYetError
        return chosen

    @contextlib.contextmanager
    def _beside_the_sampler(self, samples: Tensor) -> Iterator[None]:
        """On a CUDA device: a stream of its own, so that waiting for the frame is not waiting for the sampler."""
        if samples.device.type != "cuda":
            yield
            return
        stream = self._streams.get(samples.device)
        if stream is None:
            stream = self._streams[samples.device] = torch.cuda.Stream(samples.device)
        stream.wait_stream(torch.cuda.current_stream(samples.device))
        with torch.cuda.stream(stream):
            samples.record_stream(stream)
            yield

    def _note(self, error: Exception) -> None:
        line = one_line(error)
        self._job.troubled = True
        self.last_error = line
        log_once(f"preview {line}", line)
