"""Small networks that stand in for a whole decoder when a preview need not be full size.

A *head* reads the features of the decoder's early stages and predicts the picture at that stage's size. The
*previewer* reads the latent itself and needs no decoder at all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.tiny import WIDTH, Clamp, conv3x3


class Head(nn.Module):
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


class Pair(nn.Module):
    """Residual pair: two 3x3 convolutions added to their input, then ReLU. (B,C,h,w) -> (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(x))) + x)


class Previewer(nn.Module):
    """(B,C,h,w) latent in the family's scale -> (B,3,2h,2w) image, about [0,1] and not clamped.

    A linear 3x3 read-out of the latent plus the correction of a small convolutional network, four pixels (2x2) per
    latent position. At most 0.9 % of the multiplications of an 8x tiny decoder.
    """

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.clamp = Clamp()
        self.entry = conv3x3(latent_channels, PREVIEW_WIDTH)
        self.pairs = nn.Sequential(*(Pair(PREVIEW_WIDTH) for _ in range(PREVIEW_PAIRS)))
        self.correction = conv3x3(PREVIEW_WIDTH, 12)
        self.linear = conv3x3(latent_channels, 12)

    def forward(self, latent: Tensor) -> Tensor:
        latent = self.clamp(latent)
        hidden = self.pairs(functional.relu(self.entry(latent)))
        return functional.pixel_shuffle(self.correction(hidden) + self.linear(latent), 2)
