"""The tiny autoencoders (TAESD and its kin): networks in the layout of their original weight files.

A latent is in the diffusion model's own scale (already scaled and shifted); an image is in [0, 1]. Each network is one
``Sequential``, so that its state dict has the original keys ("1.weight", "3.conv.0.weight", ...), and tells from the
shapes in such a state dict with which arguments it is built.

Source of the structure: madebyollin/taesd (MIT), Sana, FLUX.2 and Qwen Image 2.1 variants included.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import GroupNorm, Module, ReLU, Sequential, Upsample, conv1x1, conv3x3
from taesd_ext.models.state_shapes import Arguments, Shapes, chain

WIDTH = 64
"""Channels of every stage of the 8x networks."""

CLAMP_MAGNITUDE = 3.0
"""Latents are squashed to (-3, 3): three standard deviations of a scaled latent."""

NORM_GROUPS = 4
"""Groups of the mid-block GroupNorm (FLUX.2 only)."""

PATCH = 2
"""Side of the squares of pixels that the 16x networks fold into channels."""


class Clamp(Module):
    """Soft clamp of a latent to (-3, 3)."""

    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(latent / CLAMP_MAGNITUDE) * CLAMP_MAGNITUDE


def three_convs(channels_in: int, channels: int) -> Sequential:
    """(B,C,h,w) -> (B,C',h,w)"""
    first = conv3x3(channels_in, channels)
    return Sequential(first, ReLU(), conv3x3(channels, channels), ReLU(), conv3x3(channels, channels))


class Block(Module):
    """Residual block: three 3x3 convolutions added to their input, then ReLU. (B,C,h,w) -> (B,C,h,w).

    With ``midblock_norm`` a 1x1 GroupNorm branch is added first, which looks at the whole picture.
    """

    def __init__(self, channels: int, *, midblock_norm: bool = False) -> None:
        super().__init__()
        self.conv = three_convs(channels, channels)
        self.fuse = ReLU()
        self.pool: Sequential | None = None
        if midblock_norm:
            wide = NORM_GROUPS * channels
            self.pool = Sequential(
                conv1x1(channels, wide, bias=False),
                GroupNorm(NORM_GROUPS, wide),
                ReLU(),
                conv1x1(wide, channels, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return self.fuse(self.conv(x) + x)


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


def blocks(channels: int, count: int = 3, *, midblock_norm: bool = False) -> list[nn.Module]:
    return [Block(channels, midblock_norm=midblock_norm) for _ in range(count)]


def halve(channels_in: int, channels_out: int | None = None) -> nn.Conv2d:
    """(B,C,h,w) -> (B,C',h/2,w/2)"""
    return conv3x3(channels_in, channels_out or channels_in, stride=2, bias=False)


def double(channels_in: int, channels_out: int | None = None) -> list[nn.Module]:
    """(B,C,h,w) -> (B,C',2h,2w)"""
    return [Upsample(), conv3x3(channels_in, channels_out or channels_in, bias=False)]


def halving_stages(widths: Sequence[int], *, midblock_norm: bool = False) -> list[nn.Module]:
    """Each width but the first at half the size of the one before; the norm is in the last stage."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths[1:], start=1):
        layers += [halve(widths[i - 1], width), *blocks(width, midblock_norm=midblock_norm and i == len(widths) - 1)]
    return layers


def doubling_stages(widths: Sequence[int], *, midblock_norm: bool = False) -> list[nn.Module]:
    """Each width but the first at double the size of the one before; the norm is in the first stage."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths[:-1]):
        layers += [*blocks(width, midblock_norm=midblock_norm and i == 0), *double(width, widths[i + 1])]
    return [*layers, *blocks(widths[-1], 1)]


class TinyNetwork(Sequential):
    """An encoder or a decoder; ``latent_channels`` and ``spatial_scale_factor`` are those of its latents."""

    part: ClassVar[str]
    frames: ClassVar[bool] = False
    """Its blocks remember the frame before: made for videos."""

    def __init__(self, latent_channels: int, spatial_scale_factor: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.latent_channels, self.spatial_scale_factor = latent_channels, spatial_scale_factor

    @property
    def kind(self) -> str:
        """The structure in words, "32-channel 8x with mid-block norm"."""
        words = f"{self.latent_channels}-channel {self.spatial_scale_factor}x"
        if self.frames:
            words += " video"
        normed = any(getattr(layer, "pool", None) is not None for layer in self)
        return f"{words} with mid-block norm" if normed else words

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        """With what to call this class for a network with such a state dict; None where it is of another class.

        It looks at what tells the classes and their sizes apart, not at every shape.
        """
        raise NotImplementedError


class Encoder(TinyNetwork):
    """(B,3,H,W) image in [0,1] -> (B,C,H/f,W/f) latent. H and W are multiples of f, which is patch * 2 ** (widths - 1).

    ``widths`` are those at the image's size and at each half of it. With ``patch`` 2 squares of pixels, of 3
    ``image_channels`` or with an opaque fourth, are folded into channels first.
    """

    part = "encoder"

    def __init__(
        self, latent_channels: int = 4, widths: Sequence[int] = (WIDTH,) * 4, *, midblock_norm: bool = False,
        image_channels: int = 3, patch: int = 1,
    ) -> None:  # fmt: skip
        seen = conv3x3(image_channels * patch**2, widths[0])
        super().__init__(
            latent_channels, patch * 2 ** (len(widths) - 1),
            *([FoldPatches(image_channels), seen, ReLU()] if patch > 1 else [seen]), *blocks(widths[0], 1),
            *halving_stages(widths, midblock_norm=midblock_norm),
            conv3x3(widths[-1], latent_channels),
        )  # fmt: skip
        self.patch = patch

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        for start, patch in ((0, 1), (1, PATCH)):
            if (found := chain(shapes, start)) and (channels := _image_channels(found[0][0].channels_in, patch)):
                (*_, last), widths = found
                norm = f"{last.index - 1}.pool.0.weight" in shapes
                return {"latent_channels": last.channels_out, "widths": widths, "midblock_norm": norm, **channels}
        return None


class Decoder(TinyNetwork):
    """(B,C,h,w) latent -> (B,3,f*h,f*w) image, about [0,1] and not clamped; f is patch * 2 ** (widths - 1).

    ``widths`` are those at the latent's size and at each double of it. With ``patch`` 2 squares of pixels, of 3
    ``image_channels`` or with a fourth that is left out, are unfolded from channels at the end.
    """

    part = "decoder"

    def __init__(
        self, latent_channels: int = 4, widths: Sequence[int] = (WIDTH,) * 4, *, midblock_norm: bool = False,
        image_channels: int = 3, patch: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(
            latent_channels, patch * 2 ** (len(widths) - 1),
            Clamp(), conv3x3(latent_channels, widths[0]), ReLU(),
            *doubling_stages(widths, midblock_norm=midblock_norm),
            conv3x3(widths[-1], image_channels * patch**2),
            *([UnfoldPatches()] if patch > 1 else []),
        )  # fmt: skip
        self.patch = patch

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        if (found := chain(shapes, start=1)) is None:
            return None
        (first, *_, last), widths = found
        channels = _image_channels(last.channels_out, 1) or _image_channels(last.channels_out, PATCH)
        norm = "3.pool.0.weight" in shapes
        arguments = {"latent_channels": first.channels_in, "widths": widths, "midblock_norm": norm}
        return {**arguments, **channels} if channels else None


def _image_channels(channels: int, patch: int) -> Arguments | None:
    """The arguments for squares of so many channels; None where no image has them. Only folded ones have alpha."""
    found, rest = divmod(channels, patch**2)
    return {"image_channels": found, "patch": patch} if not rest and found in ((3, 4) if patch > 1 else (3,)) else None


class F32Encoder(TinyNetwork):
    """(B,3,H,W) image in [0,1] -> (B,32,H/32,W/32) latent of Sana's DC-AE. H and W are multiples of 32.

    The first two layers halve the image already: ``widths`` begin at half of its size.
    """

    part = "encoder"

    def __init__(self, latent_channels: int = 32, widths: Sequence[int] = (WIDTH // 2, *(WIDTH,) * 4)) -> None:
        first, second, *_ = widths
        super().__init__(
            latent_channels, 2 ** len(widths),
            conv3x3(3, first, stride=2), ReLU(),
            conv3x3(first, second, stride=2), ReLU(), *blocks(second, 1),
            *halving_stages(widths[1:]),
            conv3x3(widths[-1], latent_channels),
        )  # fmt: skip

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        if (found := chain(shapes, start=0, biased=2)) is None or found[0][0].channels_in != 3:
            return None
        convs, widths = found
        return {"latent_channels": convs[-1].channels_out, "widths": widths}


class F32Decoder(Decoder):
    """Of Sana's DC-AE."""

    def __init__(self, latent_channels: int = 32, widths: Sequence[int] = (256, 128, *(WIDTH,) * 4)) -> None:
        super().__init__(latent_channels, widths)


class F16Encoder(Encoder):
    """Of Qwen Image 2.1."""

    def __init__(
        self, latent_channels: int = 64, widths: Sequence[int] = (WIDTH, WIDTH, 128, 256), image_channels: int = 4
    ) -> None:
        super().__init__(latent_channels, widths, image_channels=image_channels, patch=PATCH)


class F16Decoder(Decoder):
    """Of Qwen Image 2.1."""

    def __init__(
        self, latent_channels: int = 64, widths: Sequence[int] = (256, 128, WIDTH, WIDTH), image_channels: int = 4
    ) -> None:
        super().__init__(latent_channels, widths, image_channels=image_channels, patch=PATCH)


NETWORKS: tuple[type[TinyNetwork], ...] = (Encoder, Decoder, F32Encoder)
"""One for each structure."""
