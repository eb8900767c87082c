"""The tiny autoencoders (TAESD and its kin): networks in the layout of their original weight files.

A latent is in the diffusion model's own scale (already scaled and shifted); an image is in [0, 1]. Each network is one
``nn.Sequential``, so that its state dict has the original keys ("1.weight", "3.conv.0.weight", ...).

Source of the structure: madebyollin/taesd (MIT), Sana, FLUX.2 and Qwen Image 2.1 variants included.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import Conv2d, GroupNorm, Module, ReLU, Sequential, Upsample

WIDTH = 64
"""Channels of every stage of the 8x networks."""

CLAMP_MAGNITUDE = 3.0
"""Latents are squashed to (-3, 3): three standard deviations of a scaled latent."""

NORM_GROUPS = 4
"""Groups of the mid-block GroupNorm (FLUX.2 only)."""


def conv3x3(channels_in: int, channels_out: int, *, stride: int = 1, bias: bool = True) -> Conv2d:
    return Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=bias)


class Clamp(Module):
    """Soft clamp of a latent to (-3, 3)."""

    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(latent / CLAMP_MAGNITUDE) * CLAMP_MAGNITUDE


class Block(Module):
    """Residual block: three 3x3 convolutions added to their input, then ReLU. (B,C,h,w) -> (B,C,h,w).

    With ``midblock_norm`` a 1x1 GroupNorm branch is added first, which looks at the whole picture.
    """

    def __init__(self, channels: int, *, midblock_norm: bool = False) -> None:
        super().__init__()
        self.conv = Sequential(
            conv3x3(channels, channels),
            ReLU(),
            conv3x3(channels, channels),
            ReLU(),
            conv3x3(channels, channels),
        )
        self.fuse = ReLU()
        self.pool: Sequential | None = None
        if midblock_norm:
            wide = NORM_GROUPS * channels
            self.pool = Sequential(
                Conv2d(channels, wide, kernel_size=1, bias=False),
                GroupNorm(NORM_GROUPS, wide),
                ReLU(),
                Conv2d(wide, channels, kernel_size=1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return self.fuse(self.conv(x) + x)


def blocks(channels: int, count: int = 3, *, midblock_norm: bool = False) -> list[nn.Module]:
    return [Block(channels, midblock_norm=midblock_norm) for _ in range(count)]


def halve(channels: int) -> Conv2d:
    """(B,C,h,w) -> (B,C,h/2,w/2)"""
    return conv3x3(channels, channels, stride=2, bias=False)


def double(channels_in: int, channels_out: int | None = None) -> list[nn.Module]:
    """(B,C,h,w) -> (B,C',2h,2w)"""
    return [Upsample(), conv3x3(channels_in, channels_out or channels_in, bias=False)]


class Encoder(Sequential):
    """(B,3,H,W) image in [0,1] -> (B,C,H/8,W/8) latent. H and W are multiples of 8."""

    spatial_scale_factor = 8

    def __init__(self, latent_channels: int = 4, *, midblock_norm: bool = False) -> None:
        super().__init__(
            conv3x3(3, WIDTH), *blocks(WIDTH, 1),
            halve(WIDTH), *blocks(WIDTH),
            halve(WIDTH), *blocks(WIDTH),
            halve(WIDTH), *blocks(WIDTH, midblock_norm=midblock_norm),
            conv3x3(WIDTH, latent_channels),
        )  # fmt: skip


class Decoder(Sequential):
    """(B,C,h,w) latent -> (B,3,8h,8w) image, about [0,1] and not clamped."""

    spatial_scale_factor = 8

    def __init__(self, latent_channels: int = 4, *, midblock_norm: bool = False) -> None:
        super().__init__(
            Clamp(), conv3x3(latent_channels, WIDTH), ReLU(),
            *blocks(WIDTH, midblock_norm=midblock_norm), *double(WIDTH),
            *blocks(WIDTH), *double(WIDTH),
            *blocks(WIDTH), *double(WIDTH),
            *blocks(WIDTH, 1), conv3x3(WIDTH, 3),
        )  # fmt: skip


class F32Encoder(Sequential):
    """(B,3,H,W) image in [0,1] -> (B,32,H/32,W/32) latent of Sana's DC-AE. H and W are multiples of 32."""

    spatial_scale_factor = 32

    def __init__(self, latent_channels: int = 32) -> None:
        super().__init__(
            conv3x3(3, WIDTH // 2, stride=2), ReLU(),
            conv3x3(WIDTH // 2, WIDTH, stride=2), ReLU(), *blocks(WIDTH, 1),
            halve(WIDTH), *blocks(WIDTH),
            halve(WIDTH), *blocks(WIDTH),
            halve(WIDTH), *blocks(WIDTH),
            conv3x3(WIDTH, latent_channels),
        )  # fmt: skip


class F32Decoder(Sequential):
    """(B,32,h,w) latent of Sana's DC-AE -> (B,3,32h,32w) image, about [0,1] and not clamped."""

    spatial_scale_factor = 32

    def __init__(self, latent_channels: int = 32) -> None:
        super().__init__(
            Clamp(), conv3x3(latent_channels, 4 * WIDTH), ReLU(),
            *blocks(4 * WIDTH), *double(4 * WIDTH, 2 * WIDTH),
            *blocks(2 * WIDTH), *double(2 * WIDTH, WIDTH),
            *blocks(WIDTH), *double(WIDTH),
            *blocks(WIDTH), *double(WIDTH),
            *blocks(WIDTH), *double(WIDTH),
            *blocks(WIDTH, 1), conv3x3(WIDTH, 3),
        )  # fmt: skip


PATCH = 2
"""Side of the squares of pixels that the 16x networks fold into channels."""


class FoldPatches(Module):
    """(B,3,H,W) image -> (B,4C,H/2,W/2), with an opaque alpha channel where C is 4."""

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        self.image_channels = image_channels

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[1] < self.image_channels:
            image = functional.pad(image, (0, 0, 0, 0, 0, 1), value=1.0)
        return functional.pixel_unshuffle(image, PATCH)


class UnfoldPatches(Module):
    """(B,4C,h,w) -> (B,3,2h,2w) image; a fourth channel is straight alpha, which leaves the colours as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(x, PATCH)[:, :3]


class F16Encoder(Sequential):
    """(B,3,H,W) image in [0,1] -> (B,64,H/16,W/16) latent of Qwen Image 2.1. H and W are multiples of 16."""

    spatial_scale_factor = 16

    def __init__(self, latent_channels: int = 64, image_channels: int = 4) -> None:
        super().__init__(
            FoldPatches(image_channels), conv3x3(image_channels * PATCH**2, WIDTH), ReLU(), *blocks(WIDTH, 1),
            halve(WIDTH), *blocks(WIDTH),
            conv3x3(WIDTH, 2 * WIDTH, stride=2, bias=False), *blocks(2 * WIDTH),
            conv3x3(2 * WIDTH, 4 * WIDTH, stride=2, bias=False), *blocks(4 * WIDTH),
            conv3x3(4 * WIDTH, latent_channels),
        )  # fmt: skip


class F16Decoder(Sequential):
    """(B,64,h,w) latent of Qwen Image 2.1 -> (B,3,16h,16w) image, about [0,1] and not clamped."""

    spatial_scale_factor = 16

    def __init__(self, latent_channels: int = 64, image_channels: int = 4) -> None:
        super().__init__(
            Clamp(), conv3x3(latent_channels, 4 * WIDTH), ReLU(),
            *blocks(4 * WIDTH), *double(4 * WIDTH, 2 * WIDTH),
            *blocks(2 * WIDTH), *double(2 * WIDTH, WIDTH),
            *blocks(WIDTH), *double(WIDTH),
            *blocks(WIDTH, 1), conv3x3(WIDTH, image_channels * PATCH**2), UnfoldPatches(),
        )  # fmt: skip
