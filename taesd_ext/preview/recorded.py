"""What is kept of a job: the previews that pages got, and the latents that they were made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from taesd_ext.latent_format import LatentFormat
from taesd_ext.preview.frame import Frame


@dataclass(frozen=True)
class KeptLatent:
    """The latent of one picture: the finished one, or what was predicted of it at a step."""

    job: int
    picture: int
    """Counted from 1 within the job."""
    step: int | None
    """Counted from 1 over all passes and batches; None = finished."""
    steps: int
    latent: Tensor
    """(1,C,h,w), on the CPU: finished in the sampler's dtype, else in half precision."""
    latent_format: LatentFormat | None
    title: str = ""
    """For people: the prompt's beginning, or the like."""
    decoder: str = ""
    """What makes the job's finished pictures."""
    infotext: str = ""
    """The generation parameters as they were saved with the picture; empty until then."""
    kept_at: float = 0.0
    """When the job began, in seconds since the epoch."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the host needs to save it."""


@dataclass(frozen=True)
class Moment:
    """What is kept of one step: the preview, the latents, or both."""

    frame: Frame | None = None
    latents: Tensor | None = None
    """(B,C,h,w) of the batch, as predicted at this step."""
    latent_format: LatentFormat | None = None
    first: int = 0
    """Place of the batch's first picture among the job's."""

    @property
    def size(self) -> int:
        return (len(self.frame.image.data) if self.frame else 0) + bytes_of(self.latents)


@dataclass
class RecordedJob:
    """What is kept of one job."""

    id: int
    title: str
    steps: int
    started: float
    """Seconds since the epoch."""
    inner: bool = False
    """Whether another job started it, to work on its picture."""
    decoder: str = ""
    """What makes its finished pictures."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the host needs to save them."""
    finished: bool = False
    """Whether it came to its end; one that broke off never does."""
    parameters: list[tuple[str, int | None]] = field(default_factory=list)
    """(infotext, seed) of each picture: what is expected, and at the end what they got."""
    moments: dict[int, Moment] = field(default_factory=dict)
    """By step."""
    latents: list[tuple[Tensor | None, LatentFormat | None]] = field(default_factory=list)
    """Of the finished pictures; None where it had to go."""
    shown: int = 0
    """Number of the last preview that was added."""
    size: int = 0
    """Bytes kept."""

    @property
    def frames(self) -> tuple[Frame, ...]:
        """In the order of their steps."""
        return tuple(moment.frame for _, moment in sorted(self.moments.items()) if moment.frame)

    def finished_latents(self) -> list[KeptLatent]:
        """Those that are pictures: none that hold NaN or Inf."""
        return [
            self.kept(place, None, latent, latent_format)
            for place, (latent, latent_format) in enumerate(self.latents)
            if latent is not None and is_finite(latent)
        ]

    def all_latents(self) -> list[KeptLatent]:
        """Newest first: each picture's of each step, and before them those of finished ones."""
        steps = [
            self.kept(moment.first + place, step, latent, moment.latent_format)
            for step, moment in sorted(self.moments.items(), reverse=True)
            if moment.latents is not None
            for place, latent in enumerate(moment.latents.split(1))
        ]
        return [*self.finished_latents(), *steps]

    def copy(self) -> "RecordedJob":
        return replace(self, moments=dict(self.moments), latents=list(self.latents))

    def put(self, step: int, **known: Any) -> None:
        """Keep this of a step, beside what is kept already."""
        before = self.moments.get(step, Moment())
        self.moments[step] = now = replace(before, **known)
        self.size += now.size - before.size

    def drop(self, step: int) -> None:
        """Forget a step."""
        self.size -= self.moments.pop(step).size

    def drop_latents(self, first: int = 0) -> None:
        """Forget the finished latents from the ``first`` on."""
        self.size -= sum(bytes_of(latent) for latent, _ in self.latents[first:])
        del self.latents[first:]

    def kept(self, place: int, step: int | None, latent: Tensor, latent_format: LatentFormat | None) -> KeptLatent:
        """A latent of the picture at this place, with what is known of it by now."""
        infotext, seed = self.parameters[place] if place < len(self.parameters) else ("", None)
        return KeptLatent(
            self.id, place + 1, step, self.steps, latent, latent_format, self.title, self.decoder, infotext,
            self.started, {**self.extra, "seed": seed},
        )  # fmt: skip


def bytes_of(latent: Tensor | None) -> int:
    return 0 if latent is None else latent.numel() * latent.element_size()


def is_finite(latent: Tensor) -> bool:
    """Whether it holds neither NaN nor Inf; by its sum, which takes an eighth of the time of asking each number."""
    return bool(latent.sum(dtype=torch.float32).isfinite())
