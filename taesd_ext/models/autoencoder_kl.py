"""The SD VAE (AutoencoderKL) of SD1/2, SDXL, SD3, FLUX.1 and FLUX.2, in the VAE's own numbers.

Pixels are in [-1, 1]; latents are not scaled yet (see models/full_vae.py). Each network is one ``nn.Sequential``, so
that it reads as a picture of itself, and tells from the shapes in its state dict with which arguments it is built;
weights/vae_layouts.py knows the keys of the published layouts.

Source of the structure: CompVis/latent-diffusion (ldm), black-forest-labs/flux (quant convolutions left out).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import (
    Conv2d,
    GroupNorm,
    Module,
    PixelShuffle,
    Sequential,
    SiLU,
    Upsample,
    conv1x1,
    conv3x3,
)  # fmt: skip
from taesd_ext.models.state_shapes import Arguments, Shapes

WIDTHS = (128, 256, 512, 512)
"""Channels at 1/1, 1/2, 1/4 and 1/8 of the size."""

DOUBLED = 12
"""Channels of a decoder's end whose pictures are twice as large, as the "upscale2x" ones of Wan: 2x2 pixels each."""

NORM_GROUPS = 32
NORM_EPS = 1e-6


def group_norm(channels: int, groups: int = NORM_GROUPS) -> GroupNorm:
    return GroupNorm(groups, channels, eps=NORM_EPS)


Norm = Callable[[int], nn.Module]
"""Makes the norm of so many channels."""


class ResBlock(Module):
    """Two normalised 3x3 convolutions added to their input. (B,C,h,w) -> (B,C',h,w)"""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm = group_norm) -> None:
        super().__init__()
        self.norm1 = norm(channels_in)
        self.conv1 = conv3x3(channels_in, channels_out)
        self.norm2 = norm(channels_out)
        self.conv2 = conv3x3(channels_out, channels_out)
        self.shortcut = conv1x1(channels_in, channels_out) if channels_in != channels_out else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Attention(Module):
    """Each position looks at all others, with one head, added to its input. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, channels: int, norm: Norm = group_norm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv = conv1x1(channels, 3 * channels)
        self.out = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # (B,3C,h,w) -> three of (B,1,h*w,C)
        query, key, value = self.qkv(self.norm(x)).flatten(2).unsqueeze(1).transpose(2, 3).chunk(3, dim=3)
        seen = functional.scaled_dot_product_attention(query.contiguous(), key.contiguous(), value.contiguous())
        return x + self.out(seen.squeeze(1).transpose(1, 2).reshape(x.shape))


class Halve(Conv2d):
    """(B,C,h,w) -> (B,C,h/2,w/2); only the right and the lower edge are padded."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (0, 1, 0, 1)))


def _blocks(channels_in: int, channels_out: int, count: int, norm: Norm) -> list[nn.Module]:
    return [ResBlock(channels_out if i else channels_in, channels_out, norm) for i in range(count)]


def _middle(channels: int, norm: Norm) -> list[nn.Module]:
    return [ResBlock(channels, channels, norm), Attention(channels, norm), ResBlock(channels, channels, norm)]


def encoder_layers(latent_channels: int, widths: Sequence[int], norm: Norm, *, quant_conv: bool) -> list[nn.Module]:
    moments, last = 2 * latent_channels, widths[-1]
    layers = [conv3x3(3, widths[0]), *_blocks(widths[0], widths[0], 2, norm)]
    for finer, width in pairwise(widths):
        layers += [Halve(finer), *_blocks(finer, width, 2, norm)]
    layers += [*_middle(last, norm), norm(last), SiLU(), conv3x3(last, moments)]
    return [*layers, conv1x1(moments, moments)] if quant_conv else layers


def decoder_layers(
    latent_channels: int, widths: Sequence[int], norm: Norm, *, quant_conv: bool, image_channels: int = 3,
    narrow: int = 1,
) -> list[nn.Module]:  # fmt: skip
    """``narrow``: by what the channels are divided where the size is doubled.

    12 ``image_channels`` are squares of 2x2 pixels.
    """
    first, *_, last = widths
    layers: list[nn.Module] = [conv1x1(latent_channels, latent_channels)] if quant_conv else []
    layers += [conv3x3(latent_channels, last), *_middle(last, norm), *_blocks(last, last, 3, norm)]
    for coarser, width in pairwise(reversed(widths)):
        narrowed = coarser // narrow
        layers += [Upsample(), conv3x3(coarser, narrowed), *_blocks(narrowed, width, 3, norm)]
    layers += [norm(first), SiLU(), conv3x3(first, image_channels)]
    return [*layers, PixelShuffle(2)] if image_channels == DOUBLED else layers


class EncoderShape(Sequential):
    """What an encoder of four sizes with two blocks each tells of itself, whatever its norms are."""

    part = "encoder"
    spatial_scale_factor = 8
    moments = True
    """It gives means and logarithms of variances."""

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        """None where the shapes are of no such network."""
        widths = _widths(shapes, (1, 4, 7, 10))
        end = shapes.get("17.weight", ())
        if widths is None or len(end) != 4:
            return None
        return {"latent_channels": end[0] // 2, "widths": widths, "quant_conv": "18.weight" in shapes}


class DecoderShape(Sequential):
    """What a decoder of four sizes with three blocks each tells of itself, whatever its norms are."""

    part = "decoder"
    spatial_scale_factor = 8

    @property
    def image_scale(self) -> int:
        """Pixels of the picture for each of the one that was encoded, along a side."""
        return 2 if isinstance(self[-1], PixelShuffle) else 1

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        """None where the shapes are of no such network."""
        quant_conv = shapes.get("0.weight", ())[2:] == (1, 1)
        widths = _widths(shapes, [index + quant_conv for index in (19, 14, 9, 4)])
        start = shapes.get(f"{int(quant_conv)}.weight", ())
        if widths is None or len(start) != 4:
            return None
        doubled = shapes.get(f"{24 + quant_conv}.weight", ())[:1] == (DOUBLED,)
        return {
            "latent_channels": start[1], "widths": widths, "quant_conv": quant_conv,
            "image_channels": DOUBLED if doubled else 3,
        }  # fmt: skip


def _widths(shapes: Shapes, firsts: Sequence[int]) -> tuple[int, ...] | None:
    """Channels at each size, by its first block's place; None where one of the blocks is none."""
    found = [shapes.get(f"{index}.conv1.weight", ()) for index in firsts]
    return tuple(shape[0] for shape in found) if all(len(shape) == 4 for shape in found) else None


class Encoder(EncoderShape):
    """(B,3,H,W) pixels in [-1,1] -> (B,2C,H/8,W/8): means, then logarithms of variances. H and W are multiples of 8."""

    def __init__(
        self, latent_channels: int = 4, widths: Sequence[int] = WIDTHS, *, groups: int = NORM_GROUPS,
        quant_conv: bool = True,
    ) -> None:  # fmt: skip
        norm = partial(group_norm, groups=groups)
        super().__init__(*encoder_layers(latent_channels, widths, norm, quant_conv=quant_conv))
        self.latent_channels = latent_channels


class Decoder(DecoderShape):
    """(B,C,h,w) latent -> (B,3,8h,8w) pixels, about [-1,1] and not clamped; (B,3,16h,16w) of 12 ``image_channels``."""

    def __init__(
        self, latent_channels: int = 4, widths: Sequence[int] = WIDTHS, *, groups: int = NORM_GROUPS,
        quant_conv: bool = True, image_channels: int = 3,
    ) -> None:  # fmt: skip
        norm = partial(group_norm, groups=groups)
        layers = decoder_layers(latent_channels, widths, norm, quant_conv=quant_conv, image_channels=image_channels)
        super().__init__(*layers)
        self.latent_channels = latent_channels
