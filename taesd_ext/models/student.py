"""Small networks of our own, taught by the tiny autoencoders that they stand in for.

A *head* reads the features of the decoder's early stages and predicts the picture at that stage's size. The
*previewer* reads the latent itself and needs no decoder at all; a *small decoder* goes on from it to the full size,
and a *small encoder* leads back.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import Conv2d, Linear, Module, Sequential, conv3x3
from taesd_ext.models.tiny import WIDTH, Clamp


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
        return self.picture(latent, self.features(latent))

    def features(self, latent: Tensor) -> Tensor:
        """(B,C,h,w) clamped latent -> (B,width,h,w)."""
        hidden = functional.relu(self.entry(latent))
        if self.overview is not None:
            hidden = self.overview(hidden)
        return self.pairs(hidden)

    def picture(self, latent: Tensor, features: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.correction(features) + self.linear(latent), 2)


FACTOR = 8
"""Pixels along a side of a latent position, of the families that have a small codec."""


class SmallDecoder(Module):
    """(B,C,h,w) latent in the family's scale -> (B,3,8h,8w) image, about [0,1] and not clamped.

    The picture of the family's previewer, enlarged, and the detail that it lacks. About 2.5 % of the multiplications
    of the tiny decoder.
    """

    part = "decoder"
    WIDTHS = (56, 32)
    """At the latent's size and at twice that."""

    def __init__(self, previewer: Previewer) -> None:
        super().__init__()
        coarse, fine = self.WIDTHS
        self.previewer = previewer
        self.latent_channels = previewer.latent_channels
        self.entry = conv3x3(self.latent_channels + previewer.correction.in_channels, coarse)
        self.pair = Pair(coarse)
        self.up = conv3x3(coarse, 4 * fine)
        self.fine_pair = Pair(fine)
        self.correction = conv3x3(fine, 3 * (FACTOR // 2) ** 2)

    coarse_scales = (4,)

    def forward(self, latent: Tensor, scale: int = 1) -> Tensor:
        """``scale`` 4 gives the previewer's picture."""
        latent = self.previewer.clamp(latent)
        features = self.previewer.features(latent)
        small = self.previewer.picture(latent, features)
        return small if scale == FACTOR // 2 else self.enlarge(latent, features, small)

    def enlarge(self, latent: Tensor, features: Tensor, small: Tensor) -> Tensor:
        """(B,C,h,w), (B,width,h,w) and (B,3,2h,2w), all of the previewer -> (B,3,8h,8w)."""
        hidden = self.pair(functional.relu(self.entry(torch.cat([latent, features], dim=1))))
        hidden = self.fine_pair(functional.relu(functional.pixel_shuffle(self.up(hidden), 2)))
        detail = functional.pixel_shuffle(self.correction(hidden), FACTOR // 2)
        return functional.interpolate(small, scale_factor=FACTOR // 2, mode="bilinear") + detail


class SmallEncoder(Module):
    """(B,3,8h,8w) image in [0,1] -> (B,C,h,w) latent in the family's scale.

    A linear read-out of each square of 8x8 pixels plus the correction of a small convolutional network.
    ``overview`` is for encoders that normalise over the whole picture.
    """

    part = "encoder"
    WIDTHS = (48, 64)
    """At a quarter of the image's size and at an eighth."""
    OVERVIEW_WIDTHS = (48, 62)
    """Two channels pay for the overview: a part has at most 400 KB."""

    def __init__(self, latent_channels: int, *, overview: bool = False) -> None:
        super().__init__()
        fine, coarse = self.OVERVIEW_WIDTHS if overview else self.WIDTHS
        self.latent_channels = latent_channels
        self.entry = conv3x3(3 * (FACTOR // 2) ** 2, fine)
        self.fine_pair = Pair(fine)
        self.down = conv3x3(fine, coarse, stride=2)
        self.overview = Overview(coarse) if overview else None
        self.pair = Pair(coarse)
        self.correction = conv3x3(coarse, latent_channels)
        self.linear = Conv2d(3 * FACTOR**2, latent_channels, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        hidden = functional.relu(self.entry(functional.pixel_unshuffle(image, FACTOR // 2)))
        hidden = functional.relu(self.down(self.fine_pair(hidden)))
        if self.overview is not None:
            hidden = self.overview(hidden)
        return self.correction(self.pair(hidden)) + self.linear(functional.pixel_unshuffle(image, FACTOR))


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
