"""PreviewSession: when a running job's latent is decoded, for whom, and what pollers get."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.latent_formats import Detection, picture_part
from taesd_ext.learning.readout import Learnt
from taesd_ext.models.computing import computing
from taesd_ext.preview.device_queue import DeviceQueue
from taesd_ext.preview.frame import Frame, limited
from taesd_ext.preview.job import Job, Stats
from taesd_ext.preview.ladder import Drawing, Ladder, NotYetError
from taesd_ext.preview.scene import Scene
from taesd_ext.settings import DEVICE_CPU, PreviewSettings


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
        self._clock = clock
        self._ladder = Ladder(codec_for, learnt_for, clock)
        self._queue = DeviceQueue()
        self._state_lock = threading.Lock()
        self._decode_lock = threading.Lock()
        self._suspensions = 0
        self._film = threading.Thread()
        self._job = Job(PreviewSettings(), 0, clock(), ended=clock())

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
            with self._noting("queue"):
                self._queue.mark(picture_part(latent))

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
                self._job.ended = self._clock()
                if self._job.frame and not self._job.troubled:
                    self._ladder.error = None

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
            return self._job.stats(self._clock())

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
        return self._ladder.error and self._ladder.error[1]

    def forget_error(self) -> None:
        """What went wrong may have been mended: files came or went."""
        self._ladder.error = None

    def poll(self, latent: Tensor | None, detection: Detection, *, grid: bool = False) -> Frame | None:
        """The job's newest frame; None while there is none. A new one has a new ``number``.

        Decodes when a new preview is due, at most once a step and in one thread at a time: who comes meanwhile gets
        the frame before. ``latent`` is the sampler's own tensor, (B,C,h,w) or with frames; it is only read.
        A film is encoded beside the caller: the next poll has it.
        """
        if self._decode_lock.acquire(blocking=False):
            try:
                with self._noting("poll"):
                    self._draw_if_due(None if latent is None else picture_part(latent), detection, grid)
            finally:
                self._decode_lock.release()
        return self._job.visible

    def _draw_if_due(self, latent: Tensor | None, detection: Detection, grid: bool) -> None:
        with self._state_lock:
            job = self._job
            step, passes, settings, shown = job.step, job.passes, job.settings, job.progress
            due = not self._suspensions and not self._film.is_alive() and job.due(self._clock())
        if latent is None or not due:
            return
        device = torch.device("cpu") if settings.device == DEVICE_CPU else latent.device
        try:
            with computing(device), self._queue.copied(latent, None if grid else 1, device) as samples:
                drawing = self._ladder.draw(job, Scene.of(samples, detection, settings))
        except NotYetError:
            return
        with self._state_lock:
            job.drawn_at = self._clock()
            if job.passes == passes:  # else another began meanwhile, and none of its steps is drawn
                job.drawn_step = step
        if drawing and drawing.film:  # encoding takes long, and perhaps this is the sampler's own thread
            self._film = threading.Thread(
                target=self._show, args=(job, drawing, *shown), name="taesd-ext-film", daemon=True
            )
            self._film.start()
        elif drawing:
            self._show(job, drawing, *shown)

    def _show(self, job: Job, drawing: Drawing, step: int, steps: int) -> None:
        """Encode a preview and make it the job's newest frame."""
        with self._noting("film"):
            began = self._clock()
            image = drawing.encode()
            seconds = drawing.counted(drawing.seconds + self._clock() - began)
            with self._state_lock:
                job.budget.record(drawing.detail, seconds)
                if not job.cancelled:
                    job.failures = 0
                    full_size = limited(drawing.painter.whole_size, job.settings.max_side)
                    job.frame = Frame(
                        job.frames + 1, step, image, full_size, drawing.detail, drawing.painter.family, 1000 * seconds,
                        steps, drawing.over_budget,
                    )  # fmt: skip

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """What goes wrong inside is said, and nothing more comes of it."""
        try:
            yield
        except Exception as error:
            self._ladder.note(self._job, what, error)
