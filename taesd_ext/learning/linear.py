"""Fit a row of data/latent_rgb.json: the linear preview of a family, from its encoder and synthetic pictures."""

import json

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.noise import seeded
from taesd_ext.errors import TaesdError
from taesd_ext.learning.descent import Progress
from taesd_ext.learning.ridge import fit_convolution
from taesd_ext.learning.synthetic_pictures import picture

PICTURE_SIDE = 256


def fit_linear(codec: Codec, progress: Progress, *, pictures: int, seed: int = 0) -> tuple[Tensor, Tensor, float]:
    """(C,3) factors, (3) bias, and the PSNR in dB on held-back pictures: latent -> image in [-1,1], one pixel each."""
    if not codec.has_encoder:
        raise TaesdError(f"No linear preview for {codec.family}", "it needs the family's encoder")
    generator = seeded(seed)
    rows = []
    for _ in progress(range(pictures), pictures, codec.family):
        image = picture(PICTURE_SIDE, generator)[None]
        rows.append((codec.encode(image), functional.avg_pool2d(image, codec.spatial_scale_factor)))
    latents, images = (torch.cat(column) for column in zip(*rows, strict=True))
    held_back = max(1, pictures // 8)
    solved = fit_convolution(latents[:-held_back], images[:-held_back] * 2 - 1, kernel=1)
    shown = (solved(latents[-held_back:]) + 1) / 2
    return solved.weight[..., 0, 0].T, solved.bias, float(psnr(shown, images[-held_back:]).mean())


def row_text(factors: Tensor, bias: Tensor) -> str:
    """The numbers as they stand in data/latent_rgb.json."""
    rounded = [[round(value, 4) for value in row] for row in factors.tolist()]
    return json.dumps({"bias": [round(value, 4) for value in bias.tolist()], "factors": rounded})
