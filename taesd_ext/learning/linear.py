"""Fit a row of data/latent_rgb.json: the linear preview of a family, from its encoder and synthetic pictures."""

from __future__ import annotations

import json
from collections.abc import Generator

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.noise import seeded
from taesd_ext.errors import TaesdError
from taesd_ext.learning.synthetic_pictures import picture

PICTURES = 400
PICTURE_SIDE = 256
PENALTY = 1e-3
"""Of the mean variance of a latent channel."""


def fit_linear(
    codec: Codec, *, pictures: int = PICTURES, seed: int = 0
) -> Generator[float, None, tuple[Tensor, Tensor, float]]:
    """(C,3) factors, (3) bias, and the PSNR in dB on held-back pictures: latent -> image in [-1,1], one pixel each.

    Yields the share that is done.
    """
    if not codec.has_encoder:
        raise TaesdError(f"No linear preview for {codec.family}", "it takes the family's encoder")
    generator = seeded(seed)
    rows = []
    for _ in range(pictures):
        rows.append(_lesson(codec, generator))
        yield len(rows) / pictures
    cut = len(rows) - max(1, len(rows) // 8)
    latents, colours = (torch.cat(part).double() for part in zip(*rows[:cut], strict=True))
    centre, mean = latents.mean(dim=0), colours.mean(dim=0)
    centred = latents - centre
    gram = centred.T @ centred
    gram += torch.eye(len(gram)) * gram.diagonal().mean() * PENALTY
    factors = torch.linalg.solve(gram, centred.T @ (colours - mean))
    bias = mean - centre @ factors
    exam, answers = (torch.cat(part).double() for part in zip(*rows[cut:], strict=True))
    # Halved: an error in [-1,1] is twice that of the picture in [0,1].
    error = (((exam @ factors + bias).clamp(-1, 1) - answers) / 2).square().mean()
    return factors.float(), bias.float(), float(-10 * error.log10())


def row_text(factors: Tensor, bias: Tensor) -> str:
    """The numbers as they stand in data/latent_rgb.json."""
    rounded = [[round(value, 4) for value in row] for row in factors.tolist()]
    return json.dumps({"bias": [round(value, 4) for value in bias.tolist()], "factors": rounded})


def _lesson(codec: Codec, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    image = picture(PICTURE_SIDE, generator)[None]
    colours = functional.avg_pool2d(image, codec.spatial_scale_factor) * 2 - 1
    return codec.encode(image)[0].flatten(1).T, colours[0].flatten(1).T
