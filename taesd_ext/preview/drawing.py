"""Who draws a latent: a tiny decoder at one detail or another, a shipped previewer, or a matrix."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.memory import free_bytes
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import (
    LATENT_FORMATS,
    Detection,
    LatentFormat,
    native_format,
    to_family_latent,
)
from taesd_ext.learning.readout import Learnt
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_grey, latent_to_rgb
from taesd_ext.preview.frame import grid_shape
from taesd_ext.preview.scene import Scene
from taesd_ext.settings import AUTO, DETAILS

PREVIEW_DTYPE = "auto"
"""Previews take the precision that is quickest on the device."""

EMBEDDED = "embedded"
"""The detail of a preview that the shipped previewer of a latent format made, at a quarter of the size."""

LEARNT = "learnt"
"""The detail of a preview by what was learnt from finished pictures, two pixels per latent position."""

LINEAR = "linear"
"""The detail of the last resort: one pixel per latent position, by a matrix."""

_USUAL_STRIDE = 8
"""Image pixels per latent position where nobody says how many."""

_PIXELS = 3
"""Channels of a model without a VAE, whose latents are colours."""

_BYTES_PER_PIXEL = 1024
"""Of a full decode: 64 channels in float32, in and out of a layer and once more for the copies between."""


@dataclass(frozen=True)
class Painter:
    """One way of drawing a latent."""

    details: tuple[str, ...]
    """Details that may be shown, best first."""
    paint: Callable[[Tensor, str], Tensor]
    """(latents of the sampler's, detail) -> (B,3,H,W) image in [0,1]. Raises what the decoder raises."""
    device: torch.device
    whole_size: tuple[int, int]
    """(width, height) of the finished picture or grid of pictures."""
    family: str | None = None
    speed: object = None
    """Whose speed it is that a preview shows."""
    paint_film: Callable[[Tensor, str], Tensor] | None = None
    """The same for (T,C,h,w) latents of one film, by layers that see the frame before: (T',3,H,W)."""
    film_length: Callable[[int], int] = int
    """T' for so many latents."""

    @property
    def megapixels(self) -> float:
        """Of the finished picture or grid, or of a frame of a film."""
        return math.prod(self.whole_size) / 1e6


def codec_painter(codec: Codec, family: str, scene: Scene) -> Painter:
    """The tiny decoder, from the detail that was chosen or that ``max_side`` leaves visible down."""
    row, settings = subject_format(family, scene.detection), scene.settings
    size = _whole_size(scene.shown, row)
    finest = 0 if settings.detail == AUTO else DETAILS.index(settings.detail)
    while settings.max_side and finest < len(DETAILS) - 1 and max(size) >> (finest + 1) >= settings.max_side:
        finest += 1
    offered = [detail for detail in DETAILS if detail in codec.details]
    details = [detail for detail in offered if DETAILS.index(detail) >= finest] or offered[-1:]
    embedded = embedded_painter(scene.shown, row)
    if embedded and details != [DETAILS[-1]]:  # twice its size for half its cost
        details = [*(detail for detail in details if detail != DETAILS[-1]), EMBEDDED]
    if details[0] == "full" and not _fits(codec.device, size):
        del details[0]
        if not details:
            raise TaesdError("The preview at full detail does not fit into memory", "", "Choose a smaller detail")

    def paint(latent: Tensor, detail: str) -> Tensor:
        if detail == EMBEDDED:
            return embedded.paint(latent, detail)
        return codec.decode(to_family_latent(latent, row), detail=detail)

    def paint_film(latents: Tensor, detail: str) -> Tensor:
        return codec.decode_film(to_family_latent(latents, row), detail=detail)

    painter = Painter(tuple(details), paint, codec.device, size, codec.name, codec)
    if codec.draws_films and not embedded:
        return replace(painter, paint_film=paint_film, film_length=codec.film_length)
    return painter


def embedded_painter(samples: Tensor, row: LatentFormat | None) -> Painter | None:
    """The shipped previewer of a latent format, if there is one."""
    if row is None or not has_previewer(row.name) or not row.accepts(samples.shape[1]):
        return None

    def paint(latent: Tensor) -> Tensor:
        return load_previewer(row.name, device=latent.device, dtype=PREVIEW_DTYPE)(to_family_latent(latent, row))

    return _rough(EMBEDDED, paint, samples, _whole_size(samples, row), row)


def learnt_painter(samples: Tensor, learnt: Learnt | None) -> Painter | None:
    """What was learnt from the loaded model's finished pictures, if anything was."""
    return learnt and _rough(LEARNT, learnt.preview, samples, _size_at(samples, _USUAL_STRIDE), learnt)


def linear_painter(samples: Tensor, detection: Detection) -> Painter | None:
    """One pixel per latent position, without any weights: by the known format; by the host's factors; or, where the
    host has no name for it, or where its three channels can only be colours, by any format with as many channels."""
    channels, known, rgb = samples.shape[1], detection.format, detection.rgb
    if known is None and rgb and len(rgb.factors) == channels:
        stride = 1 if channels == _PIXELS else _USUAL_STRIDE
        return _rough(LINEAR, lambda latent: latent_to_rgb(latent, rgb), samples, _size_at(samples, stride), rgb)
    rows = (known,) if known else () if detection.named and channels != _PIXELS else LATENT_FORMATS
    row = next((row for row in rows if row.accepts(channels) and (known or row.rgb in LATENT_RGB)), None)
    if row is None:
        return None

    def paint(latent: Tensor) -> Tensor:
        latent = to_family_latent(latent, row)
        return latent_to_rgb(latent, row.rgb) if row.rgb in LATENT_RGB else latent_to_grey(latent)

    return _rough(LINEAR, paint, samples, _whole_size(samples, row), row)


def linear_image(samples: Tensor, detection: Detection) -> Tensor:
    """The last resort's picture of (B,C,h,w) latents, (B,3,h,w) in [0,1]; grey where nothing is known of them."""
    painter = linear_painter(samples, detection)
    grey = samples.new_full((len(samples), 3, *samples.shape[-2:]), 0.5)
    return painter.paint(samples, LINEAR) if painter else grey


def _rough(
    detail: str, paint: Callable[[Tensor], Tensor], samples: Tensor, size: tuple[int, int], speed: object
) -> Painter:
    """One that has a single detail."""
    return Painter((detail,), lambda latent, _detail: paint(latent), samples.device, size, speed=speed)


def painters(
    codec_for: Callable[[str], Codec], learnt_for: Callable[[int], Learnt | None], scene: Scene
) -> tuple[tuple[str, Callable[[], Painter | None]], ...]:
    """The ways of drawing a scene, best first: a name for each, and what makes it or raises."""
    samples, detection, chosen = scene.shown, scene.detection, scene.settings.family
    family = detection.family if chosen == AUTO else chosen

    def by_codec() -> Painter:
        if family is None:
            raise no_decoder(detection)
        return codec_painter(codec_for(family), family, scene)

    return (
        (f"codec {family or detection.reason}", by_codec),
        (EMBEDDED, lambda: embedded_painter(samples, detection.format)),
        (LEARNT, lambda: learnt_painter(samples, learnt_for(samples.shape[1]))),
        (LINEAR, lambda: linear_painter(samples, detection)),
    )


def subject_format(family: str, detection: Detection) -> LatentFormat:
    """The format by which a family reads the model's latents."""
    return detection.format if detection.format and detection.family == family else native_format(family)


def no_decoder(detection: Detection) -> TaesdError:
    """Why a model is drawn by no decoder."""
    title = detection.format.title if detection.format else "this model"
    return TaesdError(
        f"There is no tiny decoder for {title} yet", detection.reason, "A rough preview is shown where possible"
    )


def pictures_only(image: Tensor, family: str | None) -> Tensor:
    """(B,3,H,W) image, or with alpha, -> RGB in which a picture that holds NaN is black and hides none of the others.

    Raises TaesdError where all hold NaN.
    """
    image = image[:, :3]
    sound = ~torch.isnan(image.flatten(1).sum(1, dtype=torch.float32))
    count = int(sound.sum())
    if not count:
        raise TaesdError(f"The preview of {family or 'the latent'} is invalid", "it holds NaN")
    return image if count == len(image) else torch.where(sound.view(-1, 1, 1, 1), image, torch.zeros_like(image))


def _fits(device: torch.device, size: tuple[int, int]) -> bool:
    """Whether a full decode fits into the memory that is free, where the device tells."""
    free = free_bytes(device)
    return free is None or size[0] * size[1] * _BYTES_PER_PIXEL <= free


def _whole_size(samples: Tensor, latent_format: LatentFormat) -> tuple[int, int]:
    factor = latent_format.spatial_scale_factor
    if samples.shape[1] != latent_format.latent_channels:
        factor *= latent_format.packed
    return _size_at(samples, factor)


def _size_at(samples: Tensor, stride: int) -> tuple[int, int]:
    rows, columns = grid_shape(len(samples))
    return columns * samples.shape[-1] * stride, rows * samples.shape[-2] * stride
