"""What a codec takes and gives: sizes that are no multiple of its factor, details, number types."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.heads import SCALES
from taesd_ext.errors import TaesdError, log_once
from taesd_ext.latent_formats import LatentFormat


def check_image(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise TaesdError(f"Cannot encode a tensor of shape {tuple(image.shape)}", "an image (B,3,H,W) was expected")


def check_latent(latent: Tensor, name: str, latent_format: LatentFormat) -> None:
    channels = latent.shape[1] if latent.ndim in (4, 5) else 0
    if 0 in latent.shape or not latent_format.accepts(channels):
        raise TaesdError(
            f"{name} cannot decode a latent of shape {tuple(latent.shape)}",
            f"it reads {latent_format.latent_channels} channels",
            "Choose the family that fits the model, or Auto",
        )


def padded_to(factor: int, image: Tensor) -> Tensor:
    """The image with its right and lower edge repeated up to a multiple of ``factor``, which is said once."""
    height, width = image.shape[-2:]
    right, lower = -width % factor, -height % factor
    if not (right or lower):
        return image
    log_once(
        f"padded to a multiple of {factor}",
        f"{width}x{height} is not a multiple of {factor}: padded by repeating the edge to "
        f"{width + right}x{height + lower}.",
    )
    return functional.pad(image, (0, right, 0, lower), mode="replicate")


def cropped(image: Tensor, size: tuple[int, int], factor: int, scale: int = 1, zoom: int = 1) -> Tensor:
    """The image, 1/``scale`` of the full size, without what was added to an original of ``size`` (H, W).

    The full size is ``zoom`` times the original's.
    """
    height, width = (math.ceil(side * zoom / scale) for side in size)
    whole = tuple(math.ceil(side / factor) * factor * zoom // scale for side in size)
    if whole != tuple(image.shape[-2:]):
        raise TaesdError(
            f"Cannot cut a {image.shape[-1]}x{image.shape[-2]} image back to {width}x{height}",
            f"an image of that size was {whole[1]}x{whole[0]} when it was padded",
            "Give the size of the image that was encoded",
        )
    return image[..., :height, :width]


def scale_of(detail: str) -> int:
    """Pixels of the full size along a side of one of this detail."""
    if detail not in SCALES:
        raise TaesdError(f"There is no detail {detail!r}", f"the details are {', '.join(SCALES)}")
    return SCALES[detail]


def float_dtype(tensor: Tensor) -> torch.dtype:
    """The type that the result is wanted in."""
    if not tensor.is_floating_point():
        raise TaesdError(f"Cannot use a tensor of {tensor.dtype}", "floating point was expected")
    return tensor.dtype
