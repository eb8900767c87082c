"""What is kept of a job: the previews that pages got, and the latents that they were made of."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from taesd_ext.latent_format import LatentFormat


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

    @property
    def size(self) -> int:
        return bytes_of(self.latent)


@dataclass(frozen=True)
class Moment:
    """What is kept of one step: the preview, the latents, or both."""

    frame: RecordedFrame | None = None
    latents: Tensor | None = None
    """(B,C,h,w) of the batch, as predicted at this step."""
    latent_format: LatentFormat | None = None
    first: int = 0
    """Place of the batch's first picture among the job's."""

    @property
    def size(self) -> int:
        return (len(self.frame.data) if self.frame else 0) + bytes_of(self.latents)


@dataclass(frozen=True)
class RecordedJob:
    """What is kept of one job."""

    id: int
    title: str
    steps: int
    started: float
    """Seconds since the epoch."""
    inner: bool = False
    """Whether another job started it, to work on its picture."""
    finished: bool = False
    """Whether it came to its end; one that broke off never does."""
    moments: Mapping[int, Moment] = field(default_factory=dict)
    """By step, in order."""
    latents: tuple[KeptLatent, ...] = ()
    """Of the finished pictures."""

    @property
    def frames(self) -> tuple[RecordedFrame, ...]:
        return tuple(moment.frame for moment in self.moments.values() if moment.frame)

    @property
    def size(self) -> int:
        """Bytes kept."""
        return sum(moment.size for moment in self.moments.values()) + sum(kept.size for kept in self.latents)


def bytes_of(latent: Tensor | None) -> int:
    return 0 if latent is None else latent.numel() * latent.element_size()
