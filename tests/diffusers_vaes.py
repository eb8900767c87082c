"""diffusers' full-size VAEs, small and with made-up weights, and what they say of a picture in the codec's language."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.models.consistency_decoder import SEED
from taesd_ext.weights.vae_table import AUTOENCODER_DC, VAE_BY_NAME, VAES

KL = ("sd15-vae", "sdxl-vae", "sd3-vae", "flux-vae", "flux2-vae")
DC = tuple(row.name for row in VAES if row.network == AUTOENCODER_DC and "-mix-" not in row.name)
WAN, CONSISTENCY = "wan21-vae", "consistency-decoder"
KINDS = (*KL, WAN, CONSISTENCY, *DC)
"""One of each structure: DC-AE's "mix" are those of "in"."""

CLASSES = {
    **dict.fromkeys(KL, "AutoencoderKL"), "flux2-vae": "AutoencoderKLFlux2", WAN: "AutoencoderKLWan",
    CONSISTENCY: "ConsistencyDecoderVAE", **dict.fromkeys(DC, "AutoencoderDC"),
}  # fmt: skip
PUBLISHED_KL = {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32}
SMALL = {
    **{name: {"block_out_channels": (16, 24, 32, 32), "norm_num_groups": 8} for name in KL},
    WAN: {"base_dim": 8},
    CONSISTENCY: {"encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32, 32, 64, 64)},
}
"""What a small network has otherwise than the published one."""

LARGEST_ERROR = 1e-4
"""Relative: the largest difference over the largest value."""


def reference(name: str, *, published: bool = False, **changes: object) -> nn.Module:
    """diffusers' VAE of this kind: a small one, or on the meta device one of the published size."""
    build = getattr(pytest.importorskip("diffusers"), CLASSES[name])
    settings = _settings(name, published) | ({} if published else SMALL.get(name, {})) | changes
    if published:
        with torch.device("meta"):
            return build(**settings)
    return make_up(build(**settings))


def _settings(name: str, published: bool) -> dict[str, object]:
    row = VAE_BY_NAME[name]
    known = row.latent_format
    if name in DC:
        return _dc_settings(name, published)
    if name == WAN:
        return {"z_dim": known.latent_channels}
    if name == CONSISTENCY:
        return {}
    settings = {
        **PUBLISHED_KL, "layers_per_block": 2, "latent_channels": known.latent_channels,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    }  # fmt: skip
    if name != "flux2-vae":
        settings |= {"scaling_factor": known.scaling_factor, "shift_factor": known.shift or None}
        settings |= dict.fromkeys(("use_quant_conv", "use_post_quant_conv"), known.latent_channels == 4)
    return settings


def _dc_settings(name: str, published: bool) -> dict[str, object]:
    """As the published config.json has them; small ones have a block at each size."""
    row = VAE_BY_NAME[name]
    plain, sizes = row.plain, row.latent_format.spatial_scale_factor.bit_length()
    late = range(3, sizes)
    widths = (128, 256, 512, 512, 1024, 1024, 2048, 2048) if published else (16, 16, 16, 32, 64, 128, 256, 512)
    settings = {
        "latent_channels": row.latent_format.latent_channels,
        "scaling_factor": row.latent_format.scaling_factor,
        "downsample_block_type": "conv" if plain else "pixel_unshuffle",
        "upsample_block_type": "interpolate" if plain else "pixel_shuffle",
        "decoder_norm_types": ["rms_norm" if plain else "batch_norm"] * 3 + ["rms_norm" for _ in late],
        "decoder_act_fns": ["silu" if plain else "relu"] * 3 + ["silu" for _ in late],
    }
    blocks = {
        "encoder": (2, 2, 2, 3, 3, 3) if plain else (0, 4, 8, *(2 for _ in late)),
        "decoder": (3, 3, 3, 3, 3, 3) if plain else (0, 5, 10, *(2 for _ in late)),
    }
    for part, counts in blocks.items():
        settings |= {
            f"{part}_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock" for _ in late],
            f"{part}_block_out_channels": list(widths[:sizes]),
            f"{part}_layers_per_block": [count if published else min(count, 1) for count in counts],
            f"{part}_qkv_multiscales": [()] * 3 + [(5,) if plain else () for _ in late],
        }
    return settings


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
        sides = [-(-side // 2) for side in latent.shape[2:]]
        squares = (functional.pixel_shuffle(value.view(1, -1, 1, 1), 2).repeat(1, 1, *sides) for value in values)
        mean, deviation = (square[..., : latent.shape[2], : latent.shape[3]] for square in squares)
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
    if hasattr(vae, "temperal_downsample"):
        pixels = vae.decode(own[:, :, None]).sample[:, :, 0]
    elif hasattr(vae, "decoder_unet"):  # each picture from the noise of the same seed
        each = (vae.decode(one, generator=torch.Generator().manual_seed(SEED)).sample for one in own.split(1))
        pixels = torch.cat(list(each))
    else:
        pixels = vae.decode(own).sample
    return (pixels / 2 + 0.5).clamp(0, 1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def assert_equal(codec: Codec, vae: nn.Module, height: int, width: int, batch: int = 1) -> None:
    """Both ways, where the codec has both; sides are latent positions."""
    factor = codec.spatial_scale_factor
    if codec.has_encoder:
        image = picture(height * factor, width * factor, batch)
        assert relative_error(codec.encode(image), encoded(vae, image)) <= LARGEST_ERROR
    latent = latent_like(codec, height, width, batch)
    image = codec.decode(latent)
    assert relative_error(image, decoded(vae, latent)) <= LARGEST_ERROR
    assert float(image.std()) > 0.05, "a flat picture would prove nothing"


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    """(B,3,H,W) in [0,1], smooth with some noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear")
    return (0.9 * smooth + 0.1 * torch.rand(batch, 3, height, width, generator=generator)).clamp(0, 1)


def latent_like(codec: Codec, height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, codec.latent_channels, height, width, generator=generator)
