"""What a stored latent says about itself: which codec made it, and of a picture of which size."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import BY_NAME, LatentFormat

VERSION = 1

LARGEST_SIDE = 2**16
"""No picture behind a stored latent may claim a longer side."""


@dataclass(frozen=True)
class LatentNote:
    """What a stored latent says about itself."""

    family: str
    """The codec that made it."""
    format: str
    """Row of latent_formats.py."""
    channels: int
    height: int
    """The original picture's size, in pixels."""
    width: int
    version: int = VERSION

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the original picture, as :meth:`Codec.decode` takes it."""
        return self.height, self.width

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        factor = BY_NAME[self.format].spatial_scale_factor
        return 1, self.channels, math.ceil(self.height / factor), math.ceil(self.width / factor)


def note_for(latent: Tensor, family: str, latent_format: LatentFormat, size: tuple[int, int]) -> LatentNote:
    """The note of a (1,C,h,w) latent; ``size`` is the original picture's (H, W)."""
    note = LatentNote(family, latent_format.name, latent_format.latent_channels, *size)
    if tuple(latent.shape) != note.latent_shape:
        raise TaesdError(
            f"Cannot store a latent of shape {tuple(latent.shape)}",
            f"{family} makes {note.latent_shape} of a {size[1]}x{size[0]} picture",
        )
    if not torch.isfinite(latent).all():
        raise TaesdError(
            "Cannot store this latent", "it holds infinite or undefined numbers", "Encode in fp32 rather than fp16"
        )
    return note


def read_note(values: dict[str, Any]) -> LatentNote:
    """A note from untrusted values. Raises ValueError, in words, when they contradict each other or what is known."""
    try:
        note = LatentNote(**{name: kind(values[name]) for name, kind in _FIELDS.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its note is incomplete ({one_line(error)})") from error
    if note.version != VERSION:
        raise ValueError(f"it has version {note.version} of the layout where {VERSION} is known")
    latent_format = BY_NAME.get(note.format)
    if latent_format is None:
        raise ValueError(f"it names an unknown latent format {note.format[:40]!r}")
    if note.channels != latent_format.latent_channels:
        raise ValueError(f"it claims {note.channels} channels where {note.format} has {latent_format.latent_channels}")
    if not all(0 < side <= LARGEST_SIDE for side in note.size):
        raise ValueError(f"it claims an original of {note.width}x{note.height}")
    return note


_FIELDS: dict[str, type] = {"family": str, "format": str, "channels": int, "height": int, "width": int, "version": int}
