"""The fast form is the plain network, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from taesd_ext.models import tiny
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.fast_layers import fold_doubling
from taesd_ext.weights.tiny_file import read_tiny

ROUNDING = 2e-6

DECODERS = [
    pytest.param(tiny.Decoder, {"latent_channels": 4}, id="4-channel"),
    pytest.param(tiny.Decoder, {"latent_channels": 16}, id="16-channel"),
    pytest.param(tiny.Decoder, {"latent_channels": 32, "midblock_norm": True}, id="mid-block norm"),
    pytest.param(tiny.F32Decoder, {}, id="32x"),
    pytest.param(tiny.F16Decoder, {"widths": (32, 16, 8, 8)}, id="16x"),
]
ENCODERS = [
    pytest.param(tiny.Encoder, {"latent_channels": 4}, id="4-channel"),
    pytest.param(tiny.Encoder, {"latent_channels": 32, "midblock_norm": True}, id="mid-block norm"),
    pytest.param(tiny.F32Encoder, {}, id="32x"),
    pytest.param(tiny.F16Encoder, {"widths": (8, 8, 16, 32)}, id="16x"),
]


def _random_network(network: type[nn.Sequential], options: dict) -> nn.Sequential:
    torch.manual_seed(0)
    return network(**options).requires_grad_(False).eval()


def _close(fast: torch.Tensor, plain: torch.Tensor) -> None:
    assert fast.shape == plain.shape
    assert (fast - plain).abs().max() <= ROUNDING * max(1.0, plain.abs().max().item())


@pytest.mark.parametrize(("network", "options"), DECODERS)
@pytest.mark.parametrize("size", [(3, 5), (1, 1), (8, 4)])
def test_decoder_gives_the_plain_output(network, options, size):
    plain = _random_network(network, options)
    latent = torch.randn(2, plain[1].in_channels, *size) * 2
    before = latent.clone()
    _close(FastNetwork(plain)(latent), plain(latent))
    assert torch.equal(latent, before)


@pytest.mark.parametrize(("network", "options"), ENCODERS)
def test_encoder_gives_the_plain_output(network, options):
    plain = _random_network(network, options)
    image = torch.rand(2, 3, 64, 96)
    before = image.clone()
    _close(FastNetwork(plain)(image), plain(image))
    assert torch.equal(image, before)


def test_channels_last_input_is_not_written_into():
    plain = _random_network(tiny.Decoder, {})
    latent = torch.randn(1, 4, 4, 4).contiguous(memory_format=torch.channels_last)
    before = latent.clone()
    fast = FastNetwork(plain)
    fast(latent)
    assert torch.equal(latent, before)
    features = fast.run(latent, 0, 2)
    before = features.clone()
    fast.run(features, 2, 3)
    assert torch.equal(features, before)


@pytest.mark.parametrize(("network", "options"), DECODERS)
def test_stages_join_to_the_whole(network, options):
    fast = FastNetwork(_random_network(network, options))
    latent = torch.randn(1, fast.stages[0][1].in_channels, 2, 3)
    whole = fast(latent)
    for cut in range(1, len(fast.stages)):
        features = fast.run(latent, stop=cut)
        scale = fast.stages[cut - 1].scale
        assert features.shape[-1] * scale == whole.shape[-1]
        assert torch.equal(fast.run(features, start=cut), whole)


def test_scales():
    scales = [stage.scale for stage in FastNetwork(_random_network(tiny.Decoder, {})).stages]
    assert scales == [8, 4, 2, 1]
    assert [stage.scale for stage in FastNetwork(_random_network(tiny.F32Decoder, {})).stages] == [32, 16, 8, 4, 2, 1]
    assert [stage.scale for stage in FastNetwork(_random_network(tiny.Encoder, {})).stages] == [1, 2, 4, 8]
    assert [stage.scale for stage in FastNetwork(_random_network(tiny.F32Encoder, {})).stages] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("bias", [False, True])
def test_folded_doubling(bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=bias).double()
    x = torch.randn(2, 3, 4, 7, dtype=torch.float64)
    doubled = conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
    assert torch.allclose(fold_doubling(conv)(x), doubled, atol=1e-14)


def test_plain_network_stays_as_it_was():
    plain = _random_network(tiny.Decoder, {"midblock_norm": True})
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    fast = FastNetwork(plain)
    for weight in fast.parameters():
        weight.zero_()
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize("family", ["taesd", "taesdxl", "taesd3", "taef1", "taef2"])
def test_real_weights(family, weights_dir, reference_dir):
    encoder, decoder = (
        read_tiny(next(weights_dir.glob(f"{family}_{part}.*")))[part].build() for part in ("encoder", "decoder")
    )
    with Image.open(reference_dir / "notebook_input.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB").crop((0, 0, 128, 128))))
    image = pixels.permute(2, 0, 1)[None].float() / 255
    latent = encoder(image)
    assert (FastNetwork(decoder)(latent) - decoder(latent)).abs().max() <= ROUNDING
    # The encoders amplify rounding (SDXL's to 1e-4 of a latent's unit), so the yardstick is the plain one's own error.
    exact = encoder.double()(image.double())
    own_error = (latent - exact).abs().max()
    assert (FastNetwork(encoder.float())(image) - exact).abs().max() <= 3 * own_error + ROUNDING
