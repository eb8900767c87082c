"""The Consistency Decoder for Stable Diffusion 1 and 2, in the VAE's own numbers.

A UNet without attention starts from noise and draws the picture in two steps, at the picture's full size: finer than
the VAE's own decoder, and 27 times its work. The encoder that is published beside it is the VAE's own.

Source of structure and schedule: openai/consistencydecoder, diffusers' consistency_decoder_vae.py and
scheduling_consistency_decoder.py, which does not clamp between the steps, as here.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models import autoencoder_kl
from taesd_ext.models.fast_layers import added, convolve_activated
from taesd_ext.models.layers import Embedding, GroupNorm, Linear, Module, Sequential, SiLU, conv1x1, conv3x3
from taesd_ext.models.state_shapes import Arguments, Shapes

WIDTHS = (320, 640, 1024, 1024)
"""Channels at 1/1, 1/2, 1/4 and 1/8 of the size."""
BLOCKS = 3
"""Blocks at each size on the way down; one more on the way up."""
NORM_GROUPS = 32

TRAINED_STEPS = 1024
STEPS = (1008, 512)
"""The two steps of 64 distilled ones: the first is nearly all noise."""
SIGMA_DATA = 0.5

SEED = 0
"""Of each picture's noise: the same latent gives the same picture."""

SCALING_FACTOR = 0.18215
MEANS = (0.38862467, 0.02253063, 0.07381133, -0.0171294)
DEVIATIONS = (0.9654121, 1.0440036, 0.76147926, 0.77022034)
"""Of the scaled latents that it was trained on."""


def _signal(step: int) -> float:
    """The part of a picture's variance that is left after ``step``, by the cosine schedule."""

    def curve(part: float) -> float:
        return math.cos((part + 0.008) / 1.008 * math.pi / 2) ** 2

    return curve((step + 1) / TRAINED_STEPS) / curve(0)


class Block(Module):
    """Two normalised 3x3 convolutions added to their input; the time scales and shifts what the second norm gives.

    (B,C,h,w) and (T) -> (B,C',h,w)
    """

    def __init__(self, channels_in: int, channels_out: int, time_channels: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(NORM_GROUPS, channels_in)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.time = Linear(time_channels, 2 * channels_out)
        self.norm2 = GroupNorm(NORM_GROUPS, channels_out)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.shortcut = conv1x1(channels_in, channels_out) if channels_in != channels_out else None

    def resized(self, x: Tensor) -> Tensor:
        return x

    def first(self, x: Tensor) -> Tensor:
        return convolve_activated(x, self.norm1, self.conv1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = convolve_activated(self.first(x), self._norm_at(time), self.conv2)
        x = self.resized(x)
        return added(y, x if self.shortcut is None else self.shortcut(x))

    def _norm_at(self, time: Tensor) -> GroupNorm:
        """The second norm, scaled and shifted by the time."""
        scale, shift = self.time(functional.silu(time)).chunk(2)
        with torch.device("meta"):
            norm = GroupNorm(NORM_GROUPS, self.norm2.num_channels)
        norm.weight = nn.Parameter(self.norm2.weight * (1 + scale), requires_grad=False)
        norm.bias = nn.Parameter(self.norm2.bias * (1 + scale) + shift, requires_grad=False)
        return norm


class Resizing(Block):
    """Changes the size between the first norm and its convolution."""

    def first(self, x: Tensor) -> Tensor:
        return self.conv1(self.resized(functional.silu(self.norm1(x))))


class Halving(Resizing):
    """(B,C,h,w) -> (B,C,h/2,w/2)"""

    def resized(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)


class Doubling(Resizing):
    """(B,C,h,w) -> (B,C,2h,2w)"""

    def resized(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Joining(Block):
    """Takes what a block on the way down gave beside its input."""


def _blocks(widths: Sequence[int], time_channels: int) -> Iterator[Block]:
    finest, coarsest = widths[0], widths[-1]
    given = [finest]
    for finer, width in pairwise((finest, *widths)):
        if len(given) > 1:
            yield Halving(finer, finer, time_channels)
            given.append(finer)
        for channels_in in (finer, *[width] * (BLOCKS - 1)):
            yield Block(channels_in, width, time_channels)
            given.append(width)
    for _ in range(2):
        yield Block(coarsest, coarsest, time_channels)
    channels = coarsest
    for index, width in enumerate(reversed(widths)):
        if index:
            yield Doubling(channels, channels, time_channels)
        for _ in range(BLOCKS + 1):
            yield Joining(channels + given.pop(), width, time_channels)
            channels = width


class Encoder(autoencoder_kl.Encoder):
    """That of Stable Diffusion's VAE."""


class Decoder(Sequential):
    """(B,4,h,w) latent -> (B,3,8h,8w) pixels, about [-1,1] and not clamped.

    The layers: the times, two linear layers that read them, a convolution, the blocks, a norm, SiLU and a convolution.
    """

    part = "decoder"
    spatial_scale_factor = 8
    tile = 768
    """Pixels: larger pictures are made in tiles of this side."""
    bytes_per_pixel = 4200
    """For each byte of the type."""

    def __init__(self, latent_channels: int = 4, widths: Sequence[int] = WIDTHS) -> None:
        finest, time_channels = widths[0], 4 * widths[0]
        super().__init__(
            Embedding(TRAINED_STEPS, finest), Linear(finest, time_channels), Linear(time_channels, time_channels),
            conv3x3(3 + latent_channels, finest), *_blocks(widths, time_channels),
            GroupNorm(NORM_GROUPS, finest), SiLU(), conv3x3(finest, 6),
        )  # fmt: skip
        self.latent_channels = latent_channels

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        """None where the shapes are of no such network."""
        first = shapes.get("3.weight", ())
        widths = [shapes.get(f"{4 + index * (BLOCKS + 1)}.conv1.weight", ()) for index in range(len(WIDTHS))]
        if not all(len(shape) == 4 for shape in (first, *widths)):
            return None
        return {"latent_channels": first[1] - 3, "widths": tuple(shape[0] for shape in widths)}

    def with_noise(self, latent: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C+384,h,w): the latent and each step's noise for its pixels, which a tile takes with it.

        The global random state is left alone.
        """
        factor, generator = self.spatial_scale_factor, torch.Generator().manual_seed(SEED)
        shape = len(latent), 3, latent.shape[2] * factor, latent.shape[3] * factor
        noise = [torch.randn(shape, generator=generator, dtype=torch.float32) for _ in STEPS]
        return torch.cat([latent, *(functional.pixel_unshuffle(each, factor).to(latent) for each in noise)], dim=1)

    def forward(self, latent: Tensor) -> Tensor:
        """``latent`` as it is, or with its noise."""
        channels, factor = self.latent_channels, self.spatial_scale_factor
        latent, *noise = (latent if latent.shape[1] > channels else self.with_noise(latent)).split(
            [channels, *[3 * factor**2] * len(STEPS)], dim=1
        )
        mean, deviation = (latent.new_tensor(values).view(-1, 1, 1) for values in (MEANS, DEVIATIONS))
        known = (latent * SCALING_FACTOR - mean) / deviation
        known = functional.interpolate(known, scale_factor=factor, mode="nearest")
        pixels: Tensor | None = None
        for step, fresh in zip(STEPS, noise, strict=True):
            signal = _signal(step)
            noisy = functional.pixel_shuffle(fresh, factor) * math.sqrt(1 - signal)
            if pixels is not None:
                noisy += pixels * math.sqrt(signal)
            # As a multiple of the picture: where the noise is strong, the network's word counts more than what it saw.
            sigma, seen = math.sqrt(1 / signal - 1), noisy / math.sqrt(signal)
            variance = sigma**2 + SIGMA_DATA**2
            told = self._unet(torch.cat([seen / math.sqrt(variance), known], dim=1), step)
            pixels = told * (sigma * SIGMA_DATA / math.sqrt(variance)) + seen * (SIGMA_DATA**2 / variance)
        return pixels

    def _unet(self, x: Tensor, step: int) -> Tensor:
        """(B,3+C,H,W) noisy pixels and latent -> (B,3,H,W). The other half of its output was for training."""
        embedding, first, second, start, *blocks, norm, activation, end = self
        time = second(functional.silu(first(embedding.weight[step])))
        x = start(x)
        given = [x]
        for index, block in enumerate(blocks):
            if isinstance(block, Joining):
                x = torch.cat([x, given.pop()], dim=1)
            x = block(x, time)
            if index < len(WIDTHS) * (BLOCKS + 1) - 1:
                given.append(x)
        return end(activation(norm(x)))[:, :3]
