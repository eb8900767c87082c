"""Linear latent -> RGB: a picture without any weight file, at one pixel per latent position.

A row is a matrix (latent channels x RGB) and a bias that map a latent to an image in [-1, 1]. The idea and the first
matrix: Keturn, "Decoding latents to RGB without upscaling", discuss.huggingface.co, 2022. The rows, each with its
source, are in data/latent_rgb.json, by the names of latent_formats.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class RgbFactors:
    factors: tuple[tuple[float, float, float], ...]
    """One row for each channel."""
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    source: str = "the host's latent format"


_FILE = Path(__file__).resolve().parents[1] / "data" / "latent_rgb.json"

LATENT_RGB: dict[str, RgbFactors] = {
    name: RgbFactors(tuple(map(tuple, row["factors"])), tuple(row["bias"]), row["source"])
    for name, row in json.loads(_FILE.read_text(encoding="utf-8")).items()
}


def latent_to_rgb(latent: Tensor, row: str | RgbFactors) -> Tensor:
    """(B,C,h,w) latent in the family's scale -> (B,3,h,w) float32 image in [0,1]."""
    factors, bias = _tensors(row, latent.device)
    image = torch.einsum("bchw,cr->brhw", latent.float(), factors) + bias
    return image.add_(1).div_(2).clamp_(0, 1)


def _tensors(row: str | RgbFactors, device: torch.device) -> tuple[Tensor, Tensor]:
    """(C,3) factors and (1,3,1,1) bias."""
    rgb = LATENT_RGB[row] if isinstance(row, str) else row
    factors, bias = (torch.tensor(values, dtype=torch.float32, device=device) for values in (rgb.factors, rgb.bias))
    return factors, bias.view(1, 3, 1, 1)


_GREY_DEVIATIONS = 2.0
"""What lies so far from the mean is black or white."""


def latent_to_grey(latent: Tensor) -> Tensor:
    """(B,C,h,w) latent of which nothing is known -> (B,3,h,w) float32 image in [0,1], in greys.

    The first principal component over the positions of all pictures: shapes, and no claim about colours.
    """
    values = latent.float().transpose(0, 1).flatten(1)
    values = (values - values.mean(1, keepdim=True)).nan_to_num()
    _, directions = torch.linalg.eigh((values @ values.T).double().cpu())  # not every device has it
    first = directions[:, -1]
    first = (first * first[first.abs().argmax()].sign()).to(values)
    grey = first @ values
    grey = grey / (2 * _GREY_DEVIATIONS * grey.std().clamp_min(1e-6)) + 0.5
    batch, _, height, width = latent.shape
    return grey.clamp(0, 1).view(batch, 1, height, width).repeat(1, 3, 1, 1)


def rgb_to_latent(image: Tensor, row: str) -> Tensor:
    """(B,3,h,w) image in [0,1] -> the smallest (B,C,h,w) float32 latent that :func:`latent_to_rgb` shows as it."""
    factors, bias = _tensors(row, image.device)
    return torch.einsum("brhw,rc->bchw", image.float() * 2 - 1 - bias, torch.linalg.pinv(factors))
