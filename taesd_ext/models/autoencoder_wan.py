"""The VAE of Wan 2.1 and Qwen Image (AutoencoderKLWan) for stills, in the VAE's own numbers.

The published network is causal in time: before the first frame stand zeros, so of a kernel's three steps in time only
the last meets data, and the layers that double or halve the frames are not used at all. A still therefore needs the
last step of each kernel alone (:func:`last_step`), which makes a plain two-dimensional network of it, exactly.

Pixels are in [-1, 1]; latents are not scaled yet (see models/full_vae.py). Source of the structure: Wan-Video/Wan2.1,
diffusers' autoencoder_kl_wan.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taesd_ext.models.autoencoder_kl import DecoderShape, EncoderShape, decoder_layers, encoder_layers
from taesd_ext.models.layers import Module
from taesd_ext.models.state_shapes import Arguments, Shapes

WIDTHS = (96, 192, 384, 384)
"""Channels at 1/1, 1/2, 1/4 and 1/8 of the size."""

_SMALLEST_NORM = 1e-12


class RMSNorm(Module):
    """Each position's channels, brought to a root mean square of ``weight``. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: the squares of some hundred channels pass what half precision holds.
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).clamp_min(_SMALLEST_NORM)
        return x * (len(self.weight) ** 0.5 / length).to(x.dtype) * self.weight.view(1, -1, 1, 1)


class Encoder(EncoderShape):
    """(B,3,H,W) pixels in [-1,1] -> (B,2C,H/8,W/8): means, then logarithms of variances. H and W are multiples of 8."""

    def __init__(self, latent_channels: int = 16, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__(*encoder_layers(latent_channels, widths, RMSNorm, quant_conv=True))
        self.latent_channels = latent_channels

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        found = super().arguments_of(shapes)
        return {key: found[key] for key in ("latent_channels", "widths")} if found and found["quant_conv"] else None


class Decoder(DecoderShape):
    """(B,C,h,w) latent -> (B,3,8h,8w) pixels, about [-1,1] and not clamped.

    With ``image_channels`` 12 (the "upscale2x" decoders) the channels are squares of 2x2 pixels: (B,3,16h,16w).
    """

    def __init__(
        self, latent_channels: int = 16, widths: Sequence[int] = WIDTHS, *, image_channels: int = 3
    ) -> None:
        layers = decoder_layers(
            latent_channels, widths, RMSNorm, quant_conv=True, image_channels=image_channels, narrow=2
        )
        super().__init__(*layers)
        self.latent_channels = latent_channels

    @classmethod
    def arguments_of(cls, shapes: Shapes) -> Arguments | None:
        found = super().arguments_of(shapes)
        return found if found and found.pop("quant_conv") else None


def last_step(weight: Tensor) -> Tensor:
    """A kernel over time (O,I,T,h,w) -> the one that a still meets, (O,I,h,w); any other weight as it is."""
    return weight[:, :, -1] if weight.ndim == 5 else weight
