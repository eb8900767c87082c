"""The ways of drawing a latent: by a decoder at one detail or another, or without one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.codec.stopwatch import Stopwatch
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LATENT_FORMATS, Detection, LatentFormat, native_format, to_family_latent
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb
from taesd_ext.preview.frame import PreviewImage, grid_shape, limited, preview_image
from taesd_ext.settings import AUTO, DETAILS, PreviewSettings

PREVIEW_DTYPE = "auto"
"""Previews take the precision that is quickest on the device; finished pictures are float32."""

EMBEDDED = "embedded"
"""The detail of a preview that the shipped previewer of a latent format made, at a quarter of the size."""

LINEAR = "linear"
"""The detail of the last resort: one pixel per latent position, by a matrix."""


@dataclass(frozen=True)
class Drawn:
    """A picture of a latent."""

    image: PreviewImage
    full_size: tuple[int, int]
    """(width, height) at which it is to be shown."""
    detail: str
    family: str | None


@dataclass(frozen=True)
class Subject:
    """What is to be drawn, and by whom."""

    codec: Codec | None
    """None: the shipped previewer of the latent's format."""
    latent_format: LatentFormat
    samples: Tensor
    """(B,C,h,w) or with frames, the session's own copy."""
    settings: PreviewSettings

    @cached_property
    def whole_size(self) -> tuple[int, int]:
        return _whole_size(self.samples, self.latent_format)

    @cached_property
    def full_size(self) -> tuple[int, int]:
        return limited(self.whole_size, self.settings.max_side)

    @cached_property
    def details(self) -> tuple[str, ...]:
        """Details that may be shown, best first: down from the one chosen or from what ``max_side`` leaves visible."""
        if self.codec is None:
            return (EMBEDDED,)
        offered = [detail for detail in DETAILS if detail in getattr(self.codec, "details", ("full",))]
        rank = 0 if self.settings.detail == AUTO else DETAILS.index(self.settings.detail)
        longest, limit = max(self.whole_size), self.settings.max_side
        while limit and rank < len(DETAILS) - 1 and longest >> (rank + 1) >= limit:
            rank += 1
        return tuple(detail for detail in offered if DETAILS.index(detail) >= rank) or tuple(offered[-1:])

    def draw(self, detail: str, watch: Stopwatch) -> Drawn:
        """Decode, convert and encode; ``watch`` takes the time of the decoding. Raises what the decoder raises."""
        watch.start()
        latent = to_family_latent(self.samples, self.latent_format)
        if self.codec is None:
            image = load_previewer(self.latent_format.name, device=latent.device, dtype=PREVIEW_DTYPE)(latent)
        else:
            image = self.codec.decode(latent) if detail == "full" else self.codec.decode(latent, detail=detail)
        watch.stop()
        name = self.codec.name if self.codec else None
        if torch.isnan(image.sum(dtype=torch.float32)):
            raise TaesdError(f"{name or EMBEDDED} made a preview that is no picture", "the decoder's output is NaN")
        return Drawn(_picture(image, self.settings), self.full_size, detail, name)

    @property
    def device(self) -> torch.device:
        return self.codec.device if self.codec else self.samples.device

    @property
    def painter(self) -> Codec | LatentFormat:
        """Whose speed it is that a preview shows."""
        return self.codec or self.latent_format


def subject_format(family: str, detection: Detection) -> LatentFormat:
    """The format by which a family reads the model's latents."""
    return detection.format if detection.format and detection.family == family else native_format(family)


def no_decoder(detection: Detection) -> TaesdError:
    """Why a model is drawn by no decoder."""
    title = detection.format.title if detection.format else "this model"
    return TaesdError(
        f"There is no tiny decoder for {title} yet", detection.reason, "A rough preview is shown where one is known"
    )


def embedded_format(samples: Tensor, detection: Detection) -> LatentFormat | None:
    """The format whose shipped previewer fits, if there is one."""
    row = detection.format
    return row if row and has_previewer(row.name) and row.accepts(samples.shape[1]) else None


def linear_format(samples: Tensor, detection: Detection) -> LatentFormat | None:
    """The format whose linear preview fits: the known one, else any with as many channels."""
    for row in (detection.format,) if detection.format else LATENT_FORMATS:
        if row.rgb in LATENT_RGB and row.accepts(samples.shape[1]):
            return row
    return None


def draw_linear(latent_format: LatentFormat, samples: Tensor, settings: PreviewSettings) -> Drawn:
    """One pixel per latent position, without any weights."""
    image = latent_to_rgb(to_family_latent(samples, latent_format), latent_format.rgb)
    if torch.isnan(image.sum()):
        raise TaesdError("The latent is no picture", "it holds NaN")
    full_size = limited(_whole_size(samples, latent_format), settings.max_side)
    return Drawn(_picture(image, settings), full_size, LINEAR, None)


def _picture(image: Tensor, settings: PreviewSettings) -> PreviewImage:
    picture = preview_image(image, max_side=settings.max_side, frame_format=settings.frame_format)
    picture.encoded()
    return picture


def _whole_size(samples: Tensor, latent_format: LatentFormat) -> tuple[int, int]:
    """(width, height) of the finished picture or grid of pictures."""
    factor = latent_format.spatial_scale_factor
    if samples.shape[1] != latent_format.latent_channels:
        factor *= latent_format.packed
    rows, columns = grid_shape(len(samples))
    return columns * samples.shape[-1] * factor, rows * samples.shape[-2] * factor
