"""The last jobs' previews and latents: of each step what the page showed and what it was made of, within one bound."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count, groupby
from typing import Any

from torch import Tensor

from taesd_ext.latent_format import LatentFormat
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.recorded import KeptLatent, RecordedJob, bytes_of, is_finite

DEFAULT_LIMIT = 64 * 2**20
"""Bytes: about 600 previews of 1024 pixels as JPEG, or 512 latents of such pictures with 4 channels in float16."""

FEWEST = 8
"""A job is thinned down to so many steps before an older one is given up for it."""


class JobHistory:
    """Keeps the last jobs within ``limit`` bytes. Any thread may call any method; ``clock`` gives epoch seconds.

    When it is full, jobs lose steps between others, the oldest first; when only the newest has many, the oldest goes.
    What is added for a job that is gone, or is not to be kept, is passed over.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._ids = count(1)
        self._frames = self.keeps_latents = True
        self._jobs: list[RecordedJob] = []

    @property
    def size(self) -> int:
        """Bytes kept."""
        with self._lock:
            return sum(job.size for job in self._jobs)

    def keep(self, *, frames: bool, latents: bool, limit: int = DEFAULT_LIMIT) -> None:
        """What is kept from now on. What is not any more is dropped at once."""
        with self._lock:
            self._frames, self.keeps_latents, self._limit = frames, latents, limit
            for job in self._jobs:
                for step in list(job.moments):
                    job.put(step, **({} if frames else {"frame": None}), **({} if latents else {"latents": None}))
                    if not job.moments[step].size:
                        job.drop(step)
                if not latents:
                    job.drop_latents()
            self._shrink()

    def begin(
        self, title: str = "", steps: int = 0, *, inner: bool = False, decoder: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """A new job. One of which nothing was kept is forgotten. Gives its number."""
        with self._lock:
            job = RecordedJob(next(self._ids), title, steps, self._clock(), inner, decoder, dict(extra or {}))
            self._jobs = [job for job in self._jobs if job.size]
            if self._frames or self.keeps_latents:
                self._jobs.append(job)
        return job.id

    def add_frame(self, number: int, frame: Frame | None) -> None:
        """Keep a preview of this job; one that was added already, or None, is passed over."""
        with self._lock:
            job = self._job(number)
            if job is None or frame is None or not self._frames or frame.number <= job.shown:
                return
            job.shown, job.steps = frame.number, max(job.steps, frame.steps)
            job.put(frame.step, frame=frame.encoded_only())
            self._shrink()

    def add_latents(
        self, number: int, step: int, steps: int, latents: Tensor, latent_format: LatentFormat | None, first: int = 0
    ) -> None:
        """Keep what was predicted of a batch's pictures, (B,C,h,w) on the CPU, at a step of this job.

        ``latents`` is kept as it is. One that holds NaN or Inf is passed over; a later one of the same step counts.
        """
        finite = is_finite(latents)
        with self._lock:
            job = self._job(number)
            if job and self.keeps_latents and finite:
                job.steps = max(job.steps, steps)
                job.put(step, latents=latents, latent_format=latent_format, first=first)
                self._shrink()

    def add_finished(
        self, number: int, latents: Tensor, latent_format: LatentFormat | None, first: int = 0, most: int | None = None
    ) -> None:
        """Keep a copy of (B,C,h,w) latents that become this job's next pictures.

        From the ``first`` on, only the last ``most`` of them are (None = all): those before were but looked at.
        """
        copies = [part.detach().to("cpu", copy=True) for part in latents.split(1)]
        with self._lock:
            job = self._job(number)
            if job and self.keeps_latents:
                batch = [*job.latents[first:], *((copy, latent_format) for copy in copies)]
                job.drop_latents(first)
                job.latents += batch[-most:] if most else batch
                job.size += sum(bytes_of(latent) for latent, _ in job.latents[first:])
                self._shrink()

    def finished_count(self, number: int) -> int:
        """How many finished latents of this job are kept."""
        with self._lock:
            job = self._job(number)
            return len(job.latents) if job else 0

    def reopen(self, number: int, count: int) -> None:
        """Only the first so many of this job's finished latents were: sampling goes on from the others."""
        with self._lock:
            if job := self._job(number):
                job.drop_latents(count)

    def expect(self, number: int, first: int, parameters: Sequence[tuple[str, int | None]]) -> None:
        """The parameters and seeds of this job's pictures from the ``first`` on, as far as they are known yet."""
        with self._lock:
            if job := self._job(number):
                missing = [("", None)] * (first - len(job.parameters))
                job.parameters = [*job.parameters[:first], *missing, *parameters]

    def finish(self, number: int, infotexts: Sequence[str] = (), seeds: Sequence[int] = ()) -> None:
        """This job came to its end; the parameters and seeds of its pictures are known."""
        with self._lock:
            if job := self._job(number):
                job.finished = True
                known = [*zip(map(str, infotexts), [*seeds, *[None] * len(infotexts)], strict=False)]
                job.parameters[: len(known)] = known

    def jobs(self) -> list[RecordedJob]:
        """Copies of the jobs of which something is kept, newest first."""
        with self._lock:
            return [job.copy() for job in reversed(self._jobs) if job.size]

    def job(self, number: int) -> RecordedJob | None:
        return next((job for job in self.jobs() if job.id == number), None)

    def finished(self) -> list[KeptLatent]:
        """The finished pictures' latents, newest first."""
        return [kept for job in self.jobs() for kept in reversed(job.finished_latents())]

    def moments(self, number: int) -> list[KeptLatent]:
        """All latents of this job, newest first."""
        job = self.job(number)
        return job.all_latents() if job else []

    def known_now(self, kept: KeptLatent) -> KeptLatent:
        """The same with its parameters and its seed, should its job have come to its end meanwhile."""
        job = self.job(kept.job)
        return job.kept(kept.picture - 1, kept.step, kept.latent, kept.latent_format) if job else kept

    def _job(self, number: int) -> RecordedJob | None:
        return next((job for job in reversed(self._jobs) if job.id == number), None)

    def _shrink(self) -> None:
        while sum(job.size for job in self._jobs) > self._limit:
            *older, newest = self._jobs
            if job := next((job for job in older if len(job.moments) > FEWEST), None):
                _thin(job)
            elif older:
                del self._jobs[0]
            else:
                _thin(newest)


def _thin(job: RecordedJob) -> None:
    """Forget what is missed least: a step between others whose neighbours are nearest, far from those forgotten before,
    so that those kept are spread evenly."""
    steps = sorted(job.moments)
    gaps = [after - before for before, after in zip(steps, steps[2:], strict=False)]
    if gaps:
        nearest = min(gaps)
        runs = [list(run) for near, run in groupby(range(len(gaps)), lambda place: gaps[place] == nearest) if near]
        longest = max(runs, key=len)
        job.drop(steps[1 + longest[len(longest) // 2]])
    elif steps:
        job.drop(steps[0])
    else:
        place = next(place for place, (latent, _) in enumerate(job.latents) if latent is not None)
        job.size -= bytes_of(job.latents[place][0])
        job.latents[place] = None, None  # the others keep their places, and so their parameters
