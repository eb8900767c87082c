"""diffusers' own full-size VAEs with made-up weights, and what they say of a picture in the codec's language."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taesd_ext.codec.codec import Codec

LARGEST_ERROR = 1e-4
"""Relative: the largest difference over the largest value."""


def make_up(network: nn.Module, seed: int) -> nn.Module:
    """Seeded weights, of norms and biases too, that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.empty(value.shape).normal_(generator=generator)
            if name.endswith("running_var"):
                value.copy_(0.5 + noise.abs())
            elif value.ndim == 1:
                value.copy_(0.1 * noise + (1 if "norm" in name and name.endswith("weight") else 0))
            else:
                value.copy_(noise * (0.7 / value[0].numel() ** 0.5))
    return network.eval().requires_grad_(False)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def picture(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """(B,3,H,W) in [0,1], smooth with some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (0.9 * smooth + 0.1 * torch.rand(batch, 3, height, width, generator=generator)).clamp(0, 1)


def latent_like(codec: Codec, height: int, width: int, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, codec.latent_channels, height, width, generator=generator)
