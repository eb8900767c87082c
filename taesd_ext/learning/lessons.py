"""Latents to learn from: varied, seeded, and near those that a diffusion model really makes.

With an encoder, random latents take one trip through decoder and encoder, which puts them where real latents lie;
synthetic pictures are encoded; and a quarter are softened copies, as early sampling steps show them. Without one,
random latents of small amplitude must do.
"""

from collections.abc import Callable, Iterator, Sequence

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
    """``count`` square latents (1,C,side,side) in the family's scale, the kinds in turn: any prefix is a mixture.

    ``factor``: image pixels per latent position. The networks may compute in a lower precision.
    """
    generator = seeded(seed)
    side = LESSON_PIXELS // factor
    for index in range(count):
        if encoder is None:
            yield mixed_latent(channels, side, generator)[None]
            continue
        kind = kinds[index % len(kinds)]
        if kind == "picture":
            image = picture(side * factor, generator)[None]
        else:
            start = (power_law_latent if kind == "noise" else leaves_latent)(channels, side, generator)
            image = decoder(start[None]).clamp(0, 1)
        latent = encoder(image)
        yield soften(latent[0], generator)[None] if index % 4 == 3 else latent
