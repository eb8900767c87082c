"""Small networks that stand in for a whole decoder when a preview need not be full size.

A *head* reads the features of the decoder's early stages and predicts the picture at that stage's size. The
*previewer* reads the latent itself and needs no decoder at all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import Linear, Module, Sequential
from taesd_ext.models.tiny import WIDTH, Clamp, conv3x3


class Head(Module):
    """(B,64,h,w) features of a decoder's stage -> (B,3,h,w) image, about [0,1] and not clamped.

    ``depth`` hidden 3x3 layers, each with ReLU and each read by the linear 3x3 read-out together with the features; 0
    is the plain linear read-out.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(conv3x3(WIDTH, WIDTH) for _ in range(depth))
        self.readout = conv3x3((depth + 1) * WIDTH, 3)

    def layers(self, features: Tensor) -> Tensor:
        """(B,64*(depth+1),h,w): the features and every hidden layer."""
        found = [features]
        for conv in self.hidden:
            found.append(conv(found[-1]).relu_())
        return torch.cat(found, dim=1) if len(found) > 1 else features

    def forward(self, features: Tensor) -> Tensor:
        return self.readout(self.layers(features))


PREVIEW_WIDTH = 48
PREVIEW_PAIRS = 3
OVERVIEW_WIDTH = 46
"""Two channels pay for the overview: a file has at most 300 KB."""


class Pair(Module):
    """Residual pair: two 3x3 convolutions added to their input, then ReLU. (B,C,h,w) -> (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(x))) + x)


_LEAST_VARIANCE = 1e-4
"""Keeps the square root's slope finite where a channel is silent."""


class Overview(Module):
    """Scales and shifts each channel by the means and deviations of all of them over the picture. (B,C,h,w) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = Linear(2 * channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()  # squares of half precision do not fit it
        variance, mean = torch.var_mean(exact, dim=(2, 3), correction=0)
        seen = torch.cat([mean, (variance + _LEAST_VARIANCE).sqrt()], dim=1).to(x.dtype)
        scale, shift = self.mix(seen)[..., None, None].chunk(2, dim=1)
        return functional.relu(x * (1 + scale) + shift)


class Previewer(Module):
    """(B,C,h,w) latent in the family's scale -> (B,3,2h,2w) image, about [0,1] and not clamped.

    A linear 3x3 read-out of the latent plus the correction of a small convolutional network, four pixels (2x2) per
    latent position. At most 0.9 % of the multiplications of an 8x tiny decoder. ``overview`` is for decoders that
    normalise over the whole picture (FLUX.2's): without it the colours of whole pictures are off, 3 dB in all.
    """

    def __init__(self, latent_channels: int, *, overview: bool = False) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        width = OVERVIEW_WIDTH if overview else PREVIEW_WIDTH
        self.clamp = Clamp()
        self.entry = conv3x3(latent_channels, width)
        self.overview = Overview(width) if overview else None
        self.pairs = Sequential(*(Pair(width) for _ in range(PREVIEW_PAIRS)))
        self.correction = conv3x3(width, 12)
        self.linear = conv3x3(latent_channels, 12)

    def forward(self, latent: Tensor) -> Tensor:
        latent = self.clamp(latent)
        hidden = functional.relu(self.entry(latent))
        if self.overview is not None:
            hidden = self.overview(hidden)
        return functional.pixel_shuffle(self.correction(self.pairs(hidden)) + self.linear(latent), 2)


class LearntPreviewer(Module):
    """A previewer for latents of any scale: (B,C,h,w) as the sampler holds them -> (B,3,2h,2w), about [0,1]."""

    def __init__(self, mean: Tensor, deviation: Tensor, network: nn.Module) -> None:
        """``network`` gets each channel with the (C) ``mean`` taken off, over the (C) ``deviation``."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.network = network

    def normal(self, latent: Tensor) -> Tensor:
        return (latent - self.mean[:, None, None]) / self.deviation[:, None, None]

    def forward(self, latent: Tensor) -> Tensor:
        return self.network(self.normal(latent))
