"""The VAE of Wan and Qwen Image for stills against diffusers' three-dimensional one."""

from __future__ import annotations

import pytest
import torch
from full_vae_reference import make_up, picture, relative_error
from torch import Tensor, nn

from taesd_ext.models import autoencoder_wan
from taesd_ext.models.autoencoder_wan import last_step

diffusers = pytest.importorskip("diffusers")

WIDTHS = (8, 16, 32, 32)


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return make_up(diffusers.AutoencoderKLWan(base_dim=8, z_dim=16), seed=0)


def weights_in_order(*parts: nn.Module) -> list[Tensor]:
    """As our networks hold them: the middle's attention between its blocks, nothing of what works in time."""
    found = []
    for part in parts:
        state = part.state_dict()
        middle = [
            key for name in ("resnets.0", "attentions.0", "resnets.1") for key in state if f"mid_block.{name}" in key
        ]
        keys = [key for key in state if "time_conv" not in key]
        start = next((index for index, key in enumerate(keys) if "mid_block" in key), len(keys))
        keys = [*keys[:start], *middle, *keys[start + len(middle) :]]
        found += [last_step(state[key]) for key in keys]
    return found


def filled(network: nn.Module, weights: list[Tensor]) -> nn.Module:
    own = network.state_dict()
    assert len(own) == len(weights)
    network.load_state_dict({key: weight.reshape(own[key].shape) for key, weight in zip(own, weights, strict=True)})
    return network.eval()


@torch.inference_mode()
def test_encodes_a_still_as_diffusers_does(reference: nn.Module) -> None:
    encoder = filled(autoencoder_wan.Encoder(16, WIDTHS), weights_in_order(reference.encoder, reference.quant_conv))
    pixels = picture(40, 56, batch=2) * 2 - 1
    expected = reference.encode(pixels[:, :, None]).latent_dist.parameters[:, :, 0]
    assert relative_error(encoder(pixels), expected) < 1e-5


@torch.inference_mode()
def test_decodes_a_still_as_diffusers_does(reference: nn.Module) -> None:
    decoder = filled(
        autoencoder_wan.Decoder(16, WIDTHS), weights_in_order(reference.post_quant_conv, reference.decoder)
    )
    latent = torch.randn(2, 16, 5, 7, generator=torch.Generator().manual_seed(1))
    expected = reference.decode(latent[:, :, None]).sample[:, :, 0]  # which clamps
    assert relative_error(decoder(latent).clamp(-1, 1), expected) < 1e-5


def test_twelve_channels_are_a_picture_of_twice_the_size() -> None:
    decoder = autoencoder_wan.Decoder(16, WIDTHS, image_channels=12)
    assert decoder(torch.zeros(1, 16, 2, 3)).shape == (1, 3, 32, 48)
