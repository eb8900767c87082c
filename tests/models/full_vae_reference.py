"""diffusers' own full-size VAEs with made-up weights, and what they say of a picture in the codec's language."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.codec import Codec

LARGEST_ERROR = 1e-4
"""Relative: the largest difference over the largest value."""


def make_up(network: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded weights, of norms and biases too, that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.empty(value.shape).normal_(generator=generator)
            if name.endswith("running_var"):
                value.copy_(0.5 + noise.abs())
            elif value.ndim == 1:
                value.copy_(0.1 * noise + (1 if "norm" in name and name.endswith("weight") else 0))
            else:
                value.copy_(noise * (0.7 / value[0].numel() ** 0.5))
    return network.eval().requires_grad_(False)


def saved(vae: nn.Module, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder


def _scale(vae: nn.Module, latent: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Mean and deviation of the latent, as diffusers' pipelines take them."""
    if hasattr(vae, "bn"):  # FLUX.2's are those of the packed latent
        values = vae.bn.running_mean, torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
        squares = (functional.pixel_shuffle(value.view(1, -1, 1, 1), 2) for value in values)
        mean, deviation = (square.repeat(1, 1, *(side // 2 for side in latent.shape[2:])) for square in squares)
        return mean, deviation
    if vae.config.get("latents_mean"):
        mean, deviation = (torch.tensor(vae.config[f"latents_{kind}"]).view(1, -1, 1, 1) for kind in ("mean", "std"))
        return mean, deviation
    return vae.config.get("shift_factor") or 0.0, 1 / vae.config.scaling_factor


@torch.no_grad()
def encoded(vae: nn.Module, image: Tensor) -> Tensor:
    pixels, frames = image * 2 - 1, hasattr(vae, "temperal_downsample")
    found = vae.encode(pixels[:, :, None] if frames else pixels)
    latent = found.latent if hasattr(found, "latent") else found.latent_dist.mode()
    latent = latent[:, :, 0] if frames else latent
    mean, deviation = _scale(vae, latent)
    return (latent - mean) / deviation


@torch.no_grad()
def decoded(vae: nn.Module, latent: Tensor) -> Tensor:
    mean, deviation = _scale(vae, latent)
    own = latent * deviation + mean
    frames = hasattr(vae, "temperal_downsample")
    pixels = vae.decode(own[:, :, None]).sample[:, :, 0] if frames else vae.decode(own).sample
    return (pixels / 2 + 0.5).clamp(0, 1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def assert_equal(
    codec: Codec, vae: nn.Module, height: int, width: int, batch: int = 1, error: float = LARGEST_ERROR
) -> None:
    """Sides are latent positions."""
    factor = codec.spatial_scale_factor
    image, latent = picture(height * factor, width * factor, batch), latent_like(codec, height, width, batch)
    assert relative_error(codec.encode(image), encoded(vae, image)) <= error
    image = codec.decode(latent)
    assert relative_error(image, decoded(vae, latent)) <= error
    assert float(image.std()) > 0.05, "a flat picture would prove nothing"


def picture(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """(B,3,H,W) in [0,1], smooth with some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear")
    return (0.9 * smooth + 0.1 * torch.rand(batch, 3, height, width, generator=generator)).clamp(0, 1)


def latent_like(codec: Codec, height: int, width: int, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, codec.latent_channels, height, width, generator=generator)
