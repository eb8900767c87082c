"""Latents to learn from: varied, seeded, and near those that a diffusion model really makes.

With an encoder, random latents take one trip through decoder and encoder, which puts them where real latents lie;
generated pictures are encoded; and a quarter are softened copies, as early sampling steps show them. Without one,
random latents of small amplitude must do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from taesd_ext.codec.generated import (
    leaves_latent,
    mixed_latent,
    picture,
    power_law_latent,
    seeded,
    soften,
)

BANK_PIXELS = 256
"""Side of the pictures that a bank's square latents stand for."""

Network = Callable[[Tensor], Tensor]


def bank_latents(
    decoder: Network,
    encoder: Network | None,
    channels: int,
    factor: int,
    count: int,
    seed: int,
) -> Iterator[Tensor]:
    """``count`` square latents (1,C,side,side) in the family's scale, the kinds in turn: any prefix is a mixture.

    ``factor``: image pixels per latent position. The networks may compute in a lower precision.
    """
    generator = seeded(seed)
    side = BANK_PIXELS // factor
    for index in range(count):
        if encoder is None:
            yield mixed_latent(channels, side, generator)[None]
            continue
        kind, soft = index % 3, index % 4 == 3
        if kind == 0:
            image = decoder(power_law_latent(channels, side, generator)[None]).clamp(0, 1)
        elif kind == 1:
            image = decoder(leaves_latent(channels, side, generator)[None]).clamp(0, 1)
        else:
            image = picture(side * factor, generator)[None]
        latent = encoder(image)
        yield soften(latent[0], generator)[None] if soft else latent
