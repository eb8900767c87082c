"""DC-AE (AutoencoderDC), the deep compression autoencoder of Sana, in its own numbers.

Pixels are in [-1, 1]; latents are not scaled yet (see models/full_vae.py). Early stages are residual blocks, late ones
EfficientViT blocks: linear attention, then a gated convolution. Where the size changes, a shortcut without weights
carries the values across (space to channels and back). Each network is one ``nn.Sequential`` that tells from the shapes
in its state dict with which arguments it is built; weights/vae_layouts.py knows the keys of the published layouts.

Source of the structure: arXiv 2410.10733, mit-han-lab/efficientvit (Apache-2.0).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.dc_stages import HEAD_CHANNELS, Stage, arguments_of
from taesd_ext.models.layers import BatchNorm2d, Conv2d, Module, ReLU, Sequential, SiLU, conv1x1, conv3x3
from taesd_ext.models.state_shapes import Arguments, Shapes

NORM_EPS = 1e-5
ATTENTION_EPS = 1e-15
MLP_RATIO = 4
"""A gated convolution is so many times as wide as its block, twice: the values and their gates."""


def norm_of(stage: Stage) -> nn.Module:
    return BatchNorm2d(stage.width, eps=NORM_EPS) if stage.batch_norm else RMSNorm(stage.width)


class RMSNorm(Module):
    """Each position's channels over their root mean square. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: the squares of float16 activations overflow.
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + NORM_EPS)
        return (wide * scale).to(x.dtype) * self.weight[:, None, None] + self.bias[:, None, None]


class ResBlock(Module):
    """Two 3x3 convolutions and a norm, added to their input. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.conv1 = conv3x3(stage.width, stage.width)
        self.activation = ReLU() if stage.batch_norm else SiLU()
        self.conv2 = conv3x3(stage.width, stage.width, bias=False)
        self.norm = norm_of(stage)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv2(self.activation(self.conv1(x))))


class LinearAttention(Module):
    """Attention with ReLU in place of softmax, added to its input: its cost grows with the area, not its square.

    (B,C,h,w) -> (B,C,h,w)
    """

    def __init__(self, stage: Stage, head_channels: int = HEAD_CHANNELS) -> None:
        super().__init__()
        heads = stage.width // head_channels
        inner = heads * head_channels
        self.head_channels = head_channels
        self.qkv = conv1x1(stage.width, 3 * inner, bias=False)
        self.scales = nn.ModuleList(
            Sequential(
                Conv2d(3 * inner, 3 * inner, size, padding=size // 2, groups=3 * inner, bias=False),
                conv1x1(3 * inner, 3 * inner, groups=3 * heads, bias=False),
            )
            for size in stage.scales
        )
        self.out = conv1x1(inner * (1 + len(stage.scales)), stage.width, bias=False)
        self.norm = norm_of(stage)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, *(scale(qkv) for scale in self.scales)], dim=1)
        # (B,heads,3d,h*w): the trained weights count on each head's three parts lying one after the other.
        query, key, value = qkv.flatten(2).unflatten(1, (-1, 3 * self.head_channels)).chunk(3, dim=2)
        attend = self._linear if x.shape[-2] * x.shape[-1] > self.head_channels else self._quadratic
        seen = attend(functional.relu(query), functional.relu(key), value).to(x.dtype)
        return x + self.norm(self.out(seen.flatten(1, 2).unflatten(2, x.shape[-2:])))

    @staticmethod
    def _linear(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """value @ (key^T @ query), multiplied from the other side; a row of ones sums the weights along with it."""
        # In float32: the sums run over every position.
        query, key, value = query.float(), key.float(), functional.pad(value.float(), (0, 0, 0, 1), value=1.0)
        sums = (value @ key.transpose(-1, -2)) @ query
        return sums[:, :, :-1] / (sums[:, :, -1:] + ATTENTION_EPS)

    @staticmethod
    def _quadratic(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The same, multiplied from the near side: cheaper for fewer positions than channels."""
        weights = (key.transpose(-1, -2) @ query).float()
        weights = weights / (weights.sum(dim=2, keepdim=True) + ATTENTION_EPS)
        return value @ weights.to(value.dtype)


class GatedConv(Module):
    """A wide depthwise convolution whose one half gates the other, added to its input. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = MLP_RATIO * channels
        self.inverted = conv1x1(channels, 2 * wide)
        self.depth = Conv2d(2 * wide, 2 * wide, kernel_size=3, padding=1, groups=2 * wide)
        self.point = conv1x1(wide, channels, bias=False)
        self.norm = RMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        values, gate = self.depth(functional.silu(self.inverted(x))).chunk(2, dim=1)
        return x + self.norm(self.point(values * functional.silu(gate)))


class EfficientViTBlock(Sequential):
    """(B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, stage: Stage, head_channels: int = HEAD_CHANNELS) -> None:
        super().__init__()
        self.attention = LinearAttention(stage, head_channels)
        self.mlp = GatedConv(stage.width)


class Down(Conv2d):
    """(B,C,h,w) -> (B,C',h/2,w/2); the shortcut folds squares into channels and averages groups of them."""

    def __init__(self, channels_in: int, channels_out: int, *, strided: bool, shortcut: bool = True) -> None:
        channels, stride = (channels_out, 2) if strided else (channels_out // 4, 1)
        super().__init__(channels_in, channels, kernel_size=3, padding=1, stride=stride)
        self.group = 4 * channels_in // channels_out if shortcut else 0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        y = y if self.stride == (2, 2) else functional.pixel_unshuffle(y, 2)
        return y + functional.pixel_unshuffle(x, 2).unflatten(1, (-1, self.group)).mean(dim=2) if self.group else y


class Up(Conv2d):
    """(B,C,h,w) -> (B,C',2h,2w); the shortcut repeats channels and unfolds them into squares."""

    def __init__(self, channels_in: int, channels_out: int, *, interpolate: bool, shortcut: bool = True) -> None:
        super().__init__(channels_in, channels_out if interpolate else 4 * channels_out, kernel_size=3, padding=1)
        self.interpolate = interpolate
        self.repeats = 4 * channels_out // channels_in if shortcut else 0

    def forward(self, x: Tensor) -> Tensor:
        if self.interpolate:
            y = super().forward(functional.interpolate(x, scale_factor=2, mode="nearest"))
        else:
            y = functional.pixel_shuffle(super().forward(x), 2)
        return y + functional.pixel_shuffle(x.repeat_interleave(self.repeats, dim=1), 2) if self.repeats else y


class ToLatent(Conv2d):
    """(B,C,h,w) -> (B,latent channels,h,w); the shortcut averages groups of channels."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__(channels, latent_channels, kernel_size=3, padding=1)
        self.group = channels // latent_channels

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.unflatten(1, (-1, self.group)).mean(dim=2)


class FromLatent(Conv2d):
    """(B,latent channels,h,w) -> (B,C,h,w); the shortcut repeats channels."""

    def __init__(self, latent_channels: int, channels: int) -> None:
        super().__init__(latent_channels, channels, kernel_size=3, padding=1)
        self.repeats = channels // latent_channels

    def forward(self, latent: Tensor) -> Tensor:
        return super().forward(latent) + latent.repeat_interleave(self.repeats, dim=1)


def blocks(stage: Stage, head_channels: int) -> list[nn.Module]:
    return [
        EfficientViTBlock(stage, head_channels) if stage.attention else ResBlock(stage) for _ in range(stage.blocks)
    ]


class Encoder(Sequential):
    """(B,3,H,W) pixels in [-1,1] -> (B,C,H/f,W/f) latent, f = 2 ** (stages - 1). H and W are multiples of f.

    ``stages`` are from the largest size to the smallest. A first stage without blocks is skipped: the first layer then
    halves the picture at once. With ``plain`` sizes are halved by strided convolutions, else by folding squares into
    channels.
    """

    part = "encoder"
    moments = False

    def __init__(
        self, latent_channels: int, stages: Sequence[Stage], *, plain: bool, head_channels: int = HEAD_CHANNELS
    ) -> None:
        first = stages[0]
        if first.blocks:
            layers = [conv3x3(3, first.width), *blocks(first, head_channels)]
        else:
            layers = [Down(3, stages[1].width, strided=plain, shortcut=False)]
        for finer, stage in pairwise(stages):
            layers += [Down(finer.width, stage.width, strided=plain)] if finer.blocks else []
            layers += blocks(stage, head_channels)
        super().__init__(*layers, ToLatent(stages[-1].width, latent_channels))
        self.latent_channels, self.spatial_scale_factor = latent_channels, 2 ** (len(stages) - 1)
        self.plain = plain

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        """None where the shapes are of no such network."""
        return arguments_of(shapes, encodes=True)


class Decoder(Sequential):
    """(B,C,h,w) latent -> (B,3,f*h,f*w) pixels, about [-1,1] and not clamped.

    ``stages`` are from the largest size to the smallest, as those of the encoder. With ``plain`` sizes are doubled by
    repeating pixels, else by unfolding channels into squares.
    """

    part = "decoder"

    def __init__(
        self, latent_channels: int, stages: Sequence[Stage], *, plain: bool, head_channels: int = HEAD_CHANNELS
    ) -> None:
        first, last = stages[0], stages[-1]
        layers: list[nn.Module] = [FromLatent(latent_channels, last.width), *blocks(last, head_channels)]
        for coarser, stage in pairwise(reversed(stages)):
            layers += [Up(coarser.width, stage.width, interpolate=plain)] if stage.blocks else []
            layers += blocks(stage, head_channels)
        if first.blocks:
            layers += [RMSNorm(first.width), ReLU(), conv3x3(first.width, 3)]
        else:
            width = stages[1].width
            layers += [RMSNorm(width), ReLU(), Up(width, 3, interpolate=plain, shortcut=False)]
        super().__init__(*layers)
        self.latent_channels, self.spatial_scale_factor = latent_channels, 2 ** (len(stages) - 1)
        self.plain = plain

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        """None where the shapes are of no such network."""
        return arguments_of(shapes, encodes=False)
