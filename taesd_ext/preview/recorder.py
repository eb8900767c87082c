"""The previews of the last jobs, kept as the encoded bytes that pages get anyway, within a bound of memory."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from taesd_ext.preview.bounded import DEFAULT_LIMIT, BoundedStore
from taesd_ext.preview.frame import Frame


@dataclass(frozen=True)
class RecordedFrame:
    """One preview of a job."""

    number: int
    """Counted from 1 within the job."""
    step: int
    data: bytes
    """The encoded picture."""
    wire_format: str
    """"jpeg", "webp" or "png"."""
    full_size: tuple[int, int]
    """(width, height) at which it is to be shown."""
    detail: str
    milliseconds: float

    def picture(self) -> Image.Image:
        """The preview as it was decoded, RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


@dataclass(frozen=True)
class RecordedJob:
    """The previews of one job, as far as they are kept, oldest first."""

    id: int
    title: str
    steps: int
    started: float
    """Seconds since the epoch."""
    finished: bool = False
    """Whether it came to its end; one that broke off never does."""
    frames: tuple[RecordedFrame, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its frames."""
        return sum(len(frame.data) for frame in self.frames)


@dataclass
class _Job:
    id: int
    title: str
    steps: int
    started: float
    finished: bool = False
    frames: list[RecordedFrame] = field(default_factory=list)
    last_number: int = 0
    size: int = 0


class Recorder(BoundedStore):
    """Keeps the frames of the last jobs.

    When there are more bytes than ``limit``, the oldest job goes; a single job that is too large loses frames here and
    there, so that it can still be played from its start.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, clock: Callable[[], float] = time.time) -> None:
        super().__init__(limit, clock)
        self._jobs: list[_Job] = []

    @property
    def size(self) -> int:
        """Bytes kept."""
        with self._lock:
            return sum(job.size for job in self._jobs)

    def begin(self, title: str = "", steps: int = 0) -> int:
        """A new job: the frames that follow are its own. A job that got no frame is forgotten. Gives its number."""
        with self._lock:
            number = next(self._ids)
            if self._enabled:
                self._jobs = [job for job in self._jobs if job.frames]
                self._jobs.append(_Job(number, title, steps, self._clock()))
        return number

    def finish(self) -> None:
        """The current job came to its end."""
        with self._lock:
            for job in self._jobs[-1:]:
                job.finished = True

    def add(self, frame: Frame | None) -> None:
        """Keep a frame of the current job; one that is there already, or None, is passed over."""
        if frame is None or not self._enabled:
            return
        with self._lock:
            job = self._jobs[-1] if self._jobs else None
            if job is None or frame.number <= job.last_number:
                return
            job.last_number = frame.number
            job.steps = max(job.steps, frame.steps)
            image = frame.image
            job.frames.append(
                RecordedFrame(
                    frame.number, frame.step, image.data, image.wire_format, frame.full_size, frame.detail,
                    frame.milliseconds,
                )
            )  # fmt: skip
            job.size += len(image.data)
            self._shrink()

    def _shrink(self) -> None:
        while sum(job.size for job in self._jobs) > self._limit:
            if len(self._jobs) > 1:
                del self._jobs[0]
                continue
            frames = self._jobs[0].frames
            # Of those between the first and the newest, the one whose neighbours are nearest is missed least.
            inner = range(1, len(frames) - 1)
            least = min(inner, key=lambda i: frames[i + 1].number - frames[i - 1].number, default=0)
            self._jobs[0].size -= len(frames.pop(least).data)

    def jobs(self) -> list[RecordedJob]:
        """The jobs that have frames, newest first."""
        with self._lock:
            return [self._snapshot(job) for job in reversed(self._jobs) if job.frames]

    def job(self, job_id: int) -> RecordedJob | None:
        with self._lock:
            return next((self._snapshot(job) for job in self._jobs if job.id == job_id), None)

    @staticmethod
    def _snapshot(job: _Job) -> RecordedJob:
        return RecordedJob(job.id, job.title, job.steps, job.started, job.finished, tuple(job.frames))

    def clear(self) -> None:
        with self._lock:
            self._jobs.clear()
