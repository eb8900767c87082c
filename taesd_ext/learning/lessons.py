"""Latents to learn from: varied, seeded, and near those that a diffusion model really makes.

With an encoder, random latents take one trip through decoder and encoder, which puts them where real latents lie;
synthetic pictures are encoded; and a quarter are softened copies, as early sampling steps show them. Without one,
random latents of small amplitude must do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from taesd_ext.codec.noise import power_law_latent, seeded
from taesd_ext.learning.synthetic_pictures import leaves_latent, mixed_latent, picture, soften

LESSON_PIXELS = 256
"""Side of the pictures that the square latents stand for."""

MIXED = ("noise", "leaves", "picture")
"""Kinds of latents in equal parts: what heads learn from. "noise" and "leaves" are random latents."""

PICTURES = ("picture", "noise", "picture", "leaves", "picture")
"""More synthetic pictures than random latents: what previewers learn from, which must know pictures by heart."""

Network = Callable[[Tensor], Tensor]


def lesson_latents(
    decoder: Network,
    encoder: Network | None,
    channels: int,
    factor: int,
    count: int,
    seed: int,
    kinds: Sequence[str] = MIXED,
) -> Iterator[Tensor]:
    """``count`` latents of :func:`lesson_latent`, the kinds in turn: any prefix is a mixture."""
    generator = seeded(seed)
    for index in range(count):
        yield lesson_latent(index, decoder, encoder, channels, factor, generator, kinds)


def lesson_latent(
    index: int,
    decoder: Network,
    encoder: Network | None,
    channels: int,
    factor: int,
    generator: torch.Generator,
    kinds: Sequence[str] = MIXED,
) -> Tensor:
    """A square latent (1,C,side,side) in the family's scale; its kind goes by the index.

    ``factor``: image pixels per latent position. The networks may compute in a lower precision.
    """
    side = LESSON_PIXELS // factor
    if encoder is None:
        return mixed_latent(channels, side, generator)[None]
    kind, soft = kinds[index % len(kinds)], index % 4 == 3
    if kind == "noise":
        image = decoder(power_law_latent(channels, side, generator)[None]).clamp(0, 1)
    elif kind == "leaves":
        image = decoder(leaves_latent(channels, side, generator)[None]).clamp(0, 1)
    else:
        image = picture(side * factor, generator)[None]
    latent = encoder(image)
    return soften(latent[0], generator)[None] if soft else latent
