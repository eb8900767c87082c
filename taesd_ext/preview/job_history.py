"""The last jobs' previews and latents: of each step what the page showed and what it was made of, within one bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from torch import Tensor

from taesd_ext.latent_format import LatentFormat
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.recorded import KeptLatent, Moment, RecordedFrame, RecordedJob, bytes_of

DEFAULT_LIMIT = 64 * 2**20
"""Bytes: about 600 previews of 1024 pixels as JPEG, or 512 latents of such pictures with 4 channels in float16."""

FEWEST = 8
"""A job is thinned down to so many steps before an older one is given up for it."""


@dataclass
class _Job:
    about: RecordedJob
    decoder: str
    extra: Mapping[str, Any]
    parameters: list[tuple[str, int | None]] = field(default_factory=list)
    """(infotext, seed) of each picture, known at the end."""
    moments: dict[int, Moment] = field(default_factory=dict)
    latents: list[tuple[Tensor, LatentFormat | None]] = field(default_factory=list)
    frames: int = 0
    """Number of the last one."""
    size: int = 0

    def put(self, step: int, **known: Any) -> None:
        before = self.moments.get(step, Moment())
        self.moments[step] = now = replace(before, **known)
        self.size += now.size - before.size

    def drop(self, step: int) -> None:
        self.size -= self.moments.pop(step).size

    def thin(self) -> None:
        """Forget what is missed least: of the steps between others the one whose neighbours are nearest."""
        steps = sorted(self.moments)
        if not steps:
            self.size -= bytes_of(self.latents.pop(0)[0])
            return
        inner = range(1, len(steps) - 1)
        self.drop(steps[min(inner, key=lambda place: steps[place + 1] - steps[place - 1], default=0)])

    def forget(self, finished: int = 0) -> None:
        """Drop all finished latents but the first so many."""
        self.size -= sum(bytes_of(latent) for latent, _ in self.latents[finished:])
        del self.latents[finished:]

    def kept(self, place: int, step: int | None, latent: Tensor, latent_format: LatentFormat | None) -> KeptLatent:
        about = self.about
        infotext, seed = self.parameters[place] if place < len(self.parameters) else ("", None)
        return KeptLatent(
            about.id, place + 1, step, about.steps, latent, latent_format, about.title, self.decoder, infotext,
            about.started, {**self.extra, "seed": seed},
        )  # fmt: skip

    def finished_latents(self) -> list[KeptLatent]:
        return [self.kept(place, None, *kept) for place, kept in enumerate(self.latents) if kept[0].isfinite().all()]

    def snapshot(self) -> RecordedJob:
        moments = {step: self.moments[step] for step in sorted(self.moments)}
        return replace(self.about, moments=moments, latents=tuple(self.finished_latents()))


class JobHistory:
    """Keeps the last jobs within ``limit`` bytes. Any thread may call any method; ``clock`` gives epoch seconds.

    When it is full, jobs lose steps between others, the oldest first; when only the newest has many, the oldest goes.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._ids = count(1)
        self._frames = self._latents = True
        self._jobs: list[_Job] = []

    @property
    def size(self) -> int:
        """Bytes kept."""
        with self._lock:
            return sum(job.size for job in self._jobs)

    @property
    def keeps_latents(self) -> bool:
        return self._latents

    def keep(self, *, frames: bool, latents: bool, limit: int = DEFAULT_LIMIT) -> None:
        """What is kept from now on. What is not any more is dropped at once."""
        with self._lock:
            self._frames, self._latents, self._limit = frames, latents, limit
            for job in self._jobs:
                for step in list(job.moments):
                    job.put(step, **({} if frames else {"frame": None}), **({} if latents else {"latents": None}))
                    if not job.moments[step].size:
                        job.drop(step)
                if not latents:
                    job.forget()
            self._shrink()

    def begin(
        self, title: str = "", steps: int = 0, *, inner: bool = False, decoder: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """A new job. One of which nothing was kept is forgotten. Gives its number."""
        with self._lock:
            about = RecordedJob(next(self._ids), title, steps, self._clock(), inner)
            self._jobs = [job for job in self._jobs if job.size]
            if self._frames or self._latents:
                self._jobs.append(_Job(about, decoder, dict(extra or {})))
        return about.id

    def add_frame(self, number: int, frame: Frame | None) -> None:
        """Keep a preview of this job; one that is there already, or None, is passed over."""
        with self._lock:
            job = self._job(number)
            if job is None or frame is None or not self._frames or frame.number <= job.frames:
                return
            image, job.frames = frame.image, frame.number
            job.about = replace(job.about, steps=max(job.about.steps, frame.steps))
            recorded = RecordedFrame(
                frame.number, frame.step, image.data, image.wire_format, frame.full_size, frame.detail,
                frame.milliseconds,
            )  # fmt: skip
            job.put(frame.step, frame=recorded)
            self._shrink()

    def add_latents(
        self, number: int, step: int, steps: int, latents: Tensor, latent_format: LatentFormat | None, first: int = 0
    ) -> None:
        """Keep what was predicted of a batch's pictures, (B,C,h,w) on the CPU, at a step of this job.

        ``latents`` is kept as it is. One that holds NaN or Inf is passed over; a later one of the same step counts.
        """
        finite = bool(latents.isfinite().all())
        with self._lock:
            job = self._job(number)
            if job is None or not self._latents or not finite:
                return
            job.about = replace(job.about, steps=max(job.about.steps, steps))
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
            if job is None or not self._latents:
                return
            batch = [*job.latents[first:], *((copy, latent_format) for copy in copies)]
            job.forget(first)
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
                job.forget(count)

    def finish(self, number: int, infotexts: Sequence[str] = (), seeds: Sequence[int] = ()) -> None:
        """This job came to its end; the parameters and seeds of its pictures are known."""
        with self._lock:
            if job := self._job(number):
                job.about = replace(job.about, finished=True)
                job.parameters = [
                    (str(infotext), seeds[place] if place < len(seeds) else None)
                    for place, infotext in enumerate(infotexts)
                ]

    def jobs(self) -> list[RecordedJob]:
        """The jobs of which something is kept, newest first."""
        with self._lock:
            return [job.snapshot() for job in reversed(self._jobs) if job.size]

    def job(self, number: int) -> RecordedJob | None:
        with self._lock:
            job = self._job(number)
            return job and job.snapshot()

    def finished(self) -> list[KeptLatent]:
        """The finished pictures' latents, newest first."""
        with self._lock:
            return [kept for job in reversed(self._jobs) for kept in reversed(job.finished_latents())]

    def moments(self, number: int) -> list[KeptLatent]:
        """This job's latents, newest first: each picture's of each step, and before them those of finished ones."""
        with self._lock:
            job = self._job(number)
            if job is None:
                return []
            steps = [
                job.kept(moment.first + place, step, latent, moment.latent_format)
                for step, moment in sorted(job.moments.items(), reverse=True)
                if moment.latents is not None
                for place, latent in enumerate(moment.latents.split(1))
            ]
            return [*job.finished_latents(), *steps]

    def clear(self) -> None:
        with self._lock:
            self._jobs.clear()

    def _job(self, number: int) -> _Job | None:
        return next((job for job in reversed(self._jobs) if job.about.id == number), None)

    def _shrink(self) -> None:
        while sum(job.size for job in self._jobs) > self._limit:
            *older, newest = self._jobs
            if job := next((job for job in older if len(job.moments) > FEWEST), None):
                job.thin()
            elif older:
                del self._jobs[0]
            else:
                newest.thin()
