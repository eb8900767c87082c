"""PreviewSession: when a running job's latent is decoded, at what detail, and what happens when that fails."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import log_once, one_line
from taesd_ext.latent_formats import Detection, picture_part
from taesd_ext.models.computing import computing
from taesd_ext.preview.beside import Beside
from taesd_ext.preview.budget import PreviewBudget, SpeedBook
from taesd_ext.preview.device_queue import DeviceQueue, Stopwatch, shares_queue
from taesd_ext.preview.drawing import Learnt, Painter, painters, pictures_only
from taesd_ext.preview.frame import Frame, PreviewImage, film_image, limited, preview_image, to_pixels
from taesd_ext.preview.job import Job, Stats
from taesd_ext.preview.scene import MOST_FRAMES, Scene
from taesd_ext.settings import AUTO, DEVICE_CPU, PreviewSettings
from taesd_ext.weights.installed import NoWeights

_T = TypeVar("_T")

_LEAST_FRAMES = 4
"""Of a moving preview: fewer do not move."""


class _NotYetError(Exception):
    """The budget does not allow a preview now."""


@dataclass(frozen=True)
class _Drawn:
    encode: Callable[[], PreviewImage]
    frames: int
    painter: Painter
    budget: PreviewBudget | None
    detail: str
    seconds: float
    """Without what ``encode`` takes."""
    over_budget: bool


class PreviewSession:
    """The previews of one job after another.

    ``codec_for(family)`` gives a loaded codec or raises TaesdError; it must be quick, and must not load anything when
    called from a sampling thread. ``learnt_for(channels)`` gives what was learnt for the loaded model's latents, or
    None. Every method may be called from any thread, and none raises.
    """

    def __init__(
        self,
        codec_for: Callable[[str], Codec],
        clock: Callable[[], float] = time.perf_counter,
        learnt_for: Callable[[int], Learnt | None] = lambda channels: None,
    ) -> None:
        self._codec_for = codec_for
        self._learnt_for = learnt_for
        self._clock = clock
        self._state_lock = threading.Lock()
        self._decode_lock = threading.Lock()
        self._suspensions = 0
        self._books: weakref.WeakKeyDictionary[object, SpeedBook] = weakref.WeakKeyDictionary()
        self._queue = DeviceQueue()
        self._films = Beside()
        self._job = Job(PreviewSettings(), 0, clock(), active=False)
        self._finished_after = 0.0
        self._error: tuple[str, str] | None = None

    def start(self, settings: PreviewSettings, steps: int) -> None:
        """Begin a job of so many steps; the last one's frame is forgotten."""
        with self._state_lock:
            self._job = Job(settings, steps, self._clock())

    def step(self, step: int, steps: int | None = None, latent: Tensor | None = None) -> None:
        """A sampling step is done (counted from 1), in the sampling thread. Only takes the time.

        A lower step than before begins another pass, as hires fix and batches do, of ``steps`` steps if given.
        Samplers that ask their model more often than they say go on counting beyond ``steps``. ``latent`` is what
        will be polled for it: a poll then waits for no more of the device's work than that.
        """
        with self._state_lock:
            self._job.advance(step, steps)
        if latent is not None:
            try:
                self._queue.mark(picture_part(latent))
            except Exception as error:
                self._note("queue", error)

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
                    self._error = None

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
        """(steps done, steps in all) of the current or last job."""
        return self._job.progress

    @property
    def frame(self) -> Frame | None:
        """The newest frame of the current or last job."""
        return self._job.frame

    @property
    def last_error(self) -> str | None:
        """What went wrong last, in one line with its cure.

        Kept until that works again, or a job ends that had previews and no trouble.
        """
        return self._error[1] if self._error else None

    def forget_error(self) -> None:
        """What went wrong may have been mended: files came or went."""
        self._error = None

    def poll(self, latent: Tensor | None, detection: Detection, *, grid: bool = False) -> Frame | None:
        """The job's newest frame; None while there is none. A new one has a new ``number``.

        Decodes when a new preview is due, at most once a step and in one thread at a time: who comes meanwhile gets
        the frame before. ``latent`` is the sampler's own tensor, (B,C,h,w) or with frames; it is only read.
        A film is encoded beside the caller: the next poll has it.
        """
        if not self._decode_lock.acquire(blocking=False):
            return self._job.visible
        try:
            self._draw_if_due(None if latent is None else picture_part(latent), detection, grid)
        except Exception as error:
            self._note("poll", error)
        finally:
            self._decode_lock.release()
        return self._job.visible

    def _draw_if_due(self, latent: Tensor | None, detection: Detection, grid: bool) -> None:
        with self._state_lock:
            job = self._job
            step, passes, settings, (shown, total) = job.step, job.passes, job.settings, job.progress
            due = not self._suspensions and not self._films.busy and job.due(self._clock())
        if latent is None or not due:
            return
        device = torch.device("cpu") if settings.device == DEVICE_CPU else latent.device
        try:
            with computing(device), self._queue.copied(latent, None if grid else 1, device) as samples:
                drawn = self._draw(job, Scene.of(samples, detection, settings))
        except _NotYetError:
            return
        with self._state_lock:
            job.drawn_at = self._clock()
            if job.passes == passes:  # else another began meanwhile, and none of its steps is drawn
                job.drawn_step = step
        if drawn and drawn.frames > 1:  # encoding takes long, and perhaps this is the sampler's own thread
            self._films.offer(partial(self._show_film, job, drawn, shown, total))
        elif drawn:
            self._show(job, drawn, shown, total)

    def _show_film(self, job: Job, drawn: _Drawn, step: int, steps: int) -> None:
        try:
            self._show(job, drawn, step, steps)
        except Exception as error:
            self._note("film", error)

    def _show(self, job: Job, drawn: _Drawn, step: int, steps: int) -> None:
        """Encode a preview and make it the job's newest frame."""
        began, painter = self._clock(), drawn.painter
        image = drawn.encode()
        seconds = drawn.seconds + self._clock() - began
        if drawn.budget:
            seconds = drawn.budget.record(drawn.detail, seconds, drawn.frames)
        with self._state_lock:
            job.spent += seconds
            if not job.cancelled:
                job.failures = 0
                job.frames += 1
                job.frame = Frame(
                    job.frames, step, image, limited(painter.whole_size, job.settings.max_side), drawn.detail,
                    painter.family, 1000 * seconds, steps, drawn.over_budget,
                )  # fmt: skip

    def _draw(self, job: Job, scene: Scene) -> _Drawn | None:
        """By the first way that works: the decoder, at less detail where it fails, then the ways without one.

        None when all fail; raises _NotYetError when the budget does not allow a preview now.
        """
        for way, make in painters(self._codec_for, self._learnt_for, scene):
            painter = self._try(job, way, make)
            if painter and (drawn := self._draw_by(job, painter, scene)):
                return drawn
        return None

    def _draw_by(self, job: Job, painter: Painter, scene: Scene) -> _Drawn | None:
        """At the most detail that the budget allows, or less where that fails."""
        details = painter.details
        if all(job.rests(detail, self._clock()) for detail in details):
            return None
        budget = self._budget(job, painter, scene)
        allowed = details[details.index(self._allowed(job, budget)) :] if budget else details
        over_budget = scene.settings.detail != AUTO and allowed != details
        for detail in allowed:
            if drawn := self._try(job, detail, partial(self._drawn, job, budget, painter, scene, detail, over_budget)):
                return drawn
        return None

    def _drawn(
        self, job: Job, budget: PreviewBudget | None, painter: Painter, scene: Scene, detail: str, over_budget: bool
    ) -> _Drawn:
        frames, by_time_layers = self._film(budget, painter, scene, detail)
        watch = Stopwatch(painter.device, self._clock)
        if by_time_layers:
            image = painter.paint_film(scene.latents, detail)
        else:
            image = painter.paint(scene.frames(frames), detail)
        watch.decoded()
        image, settings = pictures_only(image, painter.family), scene.settings
        if frames > 1:
            encode = partial(film_image, to_pixels(image), scene.seconds, max_side=settings.max_side)
        else:
            still = preview_image(image, max_side=settings.max_side, frame_format=settings.frame_format)
            encode = partial(_same, still)
        return _Drawn(encode, frames, painter, budget, detail, watch.seconds(), over_budget)

    def _film(self, budget: PreviewBudget | None, painter: Painter, scene: Scene, detail: str) -> tuple[int, bool]:
        """How many frames are shown, and whether the decoder's time layers make them: they need the whole film."""
        if not scene.film:
            return 1, False
        whole = painter.film_length(len(scene.latents)) if painter.paint_film else 0
        most = max(whole, scene.most_frames)
        room = budget.frames_of_film(detail, most) if budget else most
        if 0 < whole <= min(room, MOST_FRAMES):
            return whole, True
        return min(room, scene.most_frames), False

    def _try(self, job: Job, way: str, make: Callable[[], _T]) -> _T | None:
        """What ``make`` gives, or None where it fails or failed a short while ago."""
        if job.rests(way, self._clock()):
            return None
        try:
            made = make()
        except Exception as error:
            job.failed(way, self._clock())
            self._note(way, error)
            return None
        job.resting.pop(way, None)
        if made is not None and self._error and self._error[0] == _kind(way):
            self._error = None
        return made

    def _budget(self, job: Job, painter: Painter, scene: Scene) -> PreviewBudget | None:
        """The job's ledger for this painter at this size; None when the user sets no limit."""
        percent, least_frames = scene.settings.budget, min(_LEAST_FRAMES, scene.most_frames)
        if not percent:
            return None
        made_for = (painter.speed, painter.details, painter.whole_size, percent, least_frames)
        if made_for not in job.budgets:
            book = self._books.setdefault(painter.speed, SpeedBook(shared_queue=shares_queue(painter.device)))
            width, height = painter.whole_size
            job.budgets[made_for] = PreviewBudget(
                painter.details[::-1], book, width * height / 1e6, share=percent / 100, now=job.started,
                least_frames=least_frames,
            )  # fmt: skip
        budget = job.budgets[made_for]
        budget.spent, budget.frames = job.spent, job.frames
        return budget

    def _allowed(self, job: Job, budget: PreviewBudget) -> str:
        # Only a finer frame is worth the rest of the budget: with one detail the last step is like any other.
        last = job.at_last_step and job.frame is not None and len(budget.available) > 1
        chosen = budget.choose(self._clock(), frames_left=job.frames_left, last=last)
        if chosen is None:
            raise _NotYetError
        return chosen

    def _note(self, way: str, error: Exception) -> None:
        line = one_line(error)
        if not isinstance(error, NoWeights):  # previews without a file are no fault
            self._job.troubled = True
            self._error = _kind(way), line
        log_once(f"preview {line}", line)


def _kind(way: str) -> str:
    """What an error is kept under: another family's decoder that works puts an end to "no weights", too."""
    return way.partition(" ")[0]


def _same(image: PreviewImage) -> PreviewImage:
    return image
