"""What every full-size VAE shares: pixel range, latent scale, one picture at a time, tiles.

A network here works in its own numbers: pixels in [-1, 1], latents as it was trained. The modules around it speak the
codec's language: images in [0, 1], latents in the diffusion model's scale.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.layers import Module

# A float32 exp() overflows beyond 88; no trained variance comes near. The bounds are those of the reference VAE.
_LOG_VARIANCE_RANGE = (-30.0, 20.0)


Tile = int | Literal["auto", "off"]
"""Side of a tile in pixels; "auto": only what is big; "off": never."""

Progress = Callable[[float], None]
"""Told after each piece which part of the work is done, up to 1. What it raises stops the work."""


class Tiler(Protocol):
    """Runs a network over overlapping pieces of what is too big for it at once."""

    def encode(self, network: nn.Module, pixels: Tensor, tile: Tile, progress: Progress) -> Tensor: ...

    def decode(self, network: nn.Module, latent: Tensor, tile: Tile, progress: Progress) -> Tensor: ...


class LatentScale(Protocol):
    """A VAE's own latent -> the diffusion model's, and back."""

    def from_vae(self, latent: Tensor) -> Tensor: ...

    def to_vae(self, latent: Tensor) -> Tensor: ...


class PatchScale(Module):
    """FLUX.2's scale: every channel has a mean and a variance for each position of a 2x2 square.

    Source: the ``bn`` buffers of FLUX.2's autoencoder, batch_norm_eps 1e-4.
    """

    fold = 2
    eps = 1e-4

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(latent_channels * self.fold**2))
        self.register_buffer("running_var", torch.ones(latent_channels * self.fold**2))

    def from_vae(self, latent: Tensor) -> Tensor:
        mean, deviation = self._like(latent)
        return (latent - mean) / deviation

    def to_vae(self, latent: Tensor) -> Tensor:
        mean, deviation = self._like(latent)
        return latent * deviation + mean

    def _like(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation at each position of the latent, whose sides may be odd."""
        height, width = latent.shape[-2:]
        square = torch.stack((self.running_mean, torch.sqrt(self.running_var + self.eps))).view(2, -1, 1, 1)
        square = functional.pixel_shuffle(square, self.fold)
        pattern = square.repeat(1, 1, -(-height // self.fold), -(-width // self.fold))[..., :height, :width]
        return pattern[:1], pattern[1:]


class FullEncoder(Module):
    """(B,3,H,W) image in [0,1] -> (B,C,H/f,W/f) latent in the diffusion model's scale."""

    def __init__(self, network: nn.Module, scale: LatentScale) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.tiler: Tiler | None = None

    def forward(self, image: Tensor, *, tile: Tile = "auto", progress: Progress | None = None) -> Tensor:
        return self.scale.from_vae(self.raw(image, tile, progress))

    def raw(self, image: Tensor, tile: Tile = "auto", progress: Progress | None = None) -> Tensor:
        """What the network itself says of the image: (B,C',H/f,W/f)."""

        def run(pixels: Tensor, told: Progress) -> Tensor:
            return self.tiler.encode(self.network, pixels, tile, told) if self.tiler else self.network(pixels)

        return _sliced(run, image * 2 - 1, progress)


class GaussianEncoder(FullEncoder):
    """A FullEncoder whose network gives a normal distribution, (B,2C,h,w): means, then logarithms of variances."""

    def forward(
        self,
        image: Tensor,
        sample: int | torch.Generator | None = None,
        *,
        tile: Tile = "auto",
        progress: Progress | None = None,
    ) -> Tensor:
        """The mean latent, or with ``sample`` a drawn one.

        An integer is a seed that every picture starts from, so that no latent depends on its neighbours in the batch;
        a CPU generator is drawn from once for the whole batch. The global random state is left alone.
        """
        latent, log_variance = self.raw(image, tile, progress).chunk(2, dim=1)
        if sample is not None:
            deviation = torch.exp(0.5 * log_variance.clamp(*_LOG_VARIANCE_RANGE))
            latent = latent + deviation * _noise(latent, sample)
        return self.scale.from_vae(latent)


class FullDecoder(Module):
    """(B,C,h,w) latent in the diffusion model's scale -> (B,3,f*h,f*w) image, about [0,1] and not clamped.

    A network that starts from noise gets it for the whole picture, of which each tile takes its part.
    The sides are ``image_scale`` times as long where the network draws larger pictures than were encoded.
    """

    def __init__(self, network: nn.Module, scale: LatentScale) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.tiler: Tiler | None = None
        self.image_scale: int = getattr(network, "image_scale", 1)

    def forward(self, latent: Tensor, *, tile: Tile = "auto", progress: Progress | None = None) -> Tensor:
        def run(own: Tensor, told: Progress) -> Tensor:
            if hasattr(self.network, "with_noise"):
                own = self.network.with_noise(own)
            return self.tiler.decode(self.network, own, tile, told) if self.tiler else self.network(own)

        return _sliced(run, self.scale.to_vae(latent), progress) / 2 + 0.5


def _sliced(run: Callable[[Tensor, Progress], Tensor], batch: Tensor, progress: Progress | None) -> Tensor:
    """One picture at a time: memory does not grow with the batch."""
    slices, done = batch.split(1), []

    def told(part: float) -> None:
        if progress is not None:
            progress((len(done) + part) / len(slices))

    for one in slices:
        done.append(run(one, told))
        told(0.0)
    return torch.cat(done) if len(done) > 1 else done[0]


def _noise(like: Tensor, sample: int | torch.Generator) -> Tensor:
    shape, generator = like.shape, sample
    if not isinstance(sample, torch.Generator):  # the same for each picture
        shape, generator = like.shape[1:], torch.Generator().manual_seed(sample)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float32)
    return drawn.expand(like.shape).to(like.device, like.dtype)
