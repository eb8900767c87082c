"""The fast form is the plain network, up to rounding, whatever the strips of a full-size VAE are."""

import numpy as np
import pytest
import torch
from diffusers_vaes import make_up, relative_error
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from taesd_ext.models import autoencoder_dc, autoencoder_kl, autoencoder_wan, fast_layers, tiny, winograd
from taesd_ext.models.dc_stages import Stage
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


WIDTHS = {"widths": (32, 32, 64, 64), "latent_channels": 4}
LATE = Stage(64, 1, attention=True, scales=(5,))
DC = {"latent_channels": 4, "stages": (Stage(32, 1), Stage(64, 1), LATE, LATE), "plain": True}
SHUFFLING_DC = {**DC, "stages": (Stage(32, 0), Stage(32, 1, batch_norm=True), LATE, LATE), "plain": False}
FULL = [
    pytest.param(lambda: autoencoder_kl.Decoder(**WIDTHS), 4, id="KL decoder"),
    pytest.param(lambda: autoencoder_kl.Encoder(**WIDTHS), 3, id="KL encoder"),
    pytest.param(lambda: autoencoder_wan.Decoder(**WIDTHS, image_channels=12), 4, id="2x Wan decoder"),
    pytest.param(lambda: autoencoder_wan.Encoder(**WIDTHS), 3, id="Wan encoder"),
    pytest.param(lambda: autoencoder_dc.Decoder(**DC), 4, id="DC decoder"),
    pytest.param(lambda: autoencoder_dc.Encoder(**DC), 3, id="DC encoder"),
    pytest.param(lambda: autoencoder_dc.Decoder(**SHUFFLING_DC), 4, id="shuffling DC decoder"),
    pytest.param(lambda: autoencoder_dc.Encoder(**SHUFFLING_DC), 3, id="shuffling DC encoder"),
]


@pytest.mark.parametrize("least", [1, 10**9], ids=["fewer multiplications", "direct"])
@pytest.mark.parametrize("strip_bytes", [20_000, 16 << 20])
@pytest.mark.parametrize(("build", "channels"), FULL)
def test_a_full_vae_gives_the_plain_output_whatever_its_strips(build, channels, strip_bytes, least, monkeypatch):
    monkeypatch.setattr(fast_layers, "STRIP_BYTES", strip_bytes)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", least)
    monkeypatch.setattr(winograd, "LEAST_POSITIONS", 1)
    plain = make_up(build(), 0)
    network = FastNetwork(plain).to(memory_format=torch.channels_last)
    factor = 8 if channels == 3 else 1
    for batch, height, width in ((1, 3, 6), (2, 5, 4)):
        x = torch.randn(batch, channels, factor * height, factor * width)
        before = x.clone()
        assert relative_error(network(x), plain(x)) <= 1e-5
        assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_computed_without_strips(dtype):
    plain = make_up(autoencoder_kl.Decoder(**WIDTHS), 0).to(dtype)
    x = torch.randn(1, 4, 5, 6, dtype=dtype)
    assert relative_error(FastNetwork(plain)(x), plain(x)) <= {torch.float64: 1e-12}.get(dtype, 0.1)


@pytest.mark.parametrize("build", [lambda: autoencoder_kl.Decoder(**WIDTHS), lambda: autoencoder_dc.Decoder(**DC)])
def test_devices_that_are_not_trusted_are_not_written_on(build, monkeypatch):
    plain = make_up(build(), 0).double()  # in float64 there are no strips
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    network, wanted = FastNetwork(plain), plain(x)
    monkeypatch.setattr(fast_layers, "_TRUSTED", ())
    for name in ("add_", "mul_"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("written in place"))
    assert relative_error(network(x), wanted) <= 1e-6  # some norms compute in float32


class LargeTensors(TorchDispatchMode):
    """Counts the results of so many bytes or more that torch makes, views and tensors written over left out."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.count = least, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        result = func(*args, **kwargs or {})
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() >= self.least:
            self.count += result.untyped_storage().data_ptr() not in given
        return result


def test_a_block_makes_no_normalised_copy_of_the_picture(monkeypatch):
    """Beside what it is given, a residual block holds its result and two strips."""
    monkeypatch.setattr(fast_layers, "STRIP_BYTES", 4 * 32 * 64 * 8)
    plain = autoencoder_kl.ResBlock(32, 32).requires_grad_(False)
    x = torch.randn(1, 32, 64, 64).contiguous(memory_format=torch.channels_last)
    counts = []
    for block in (plain, fast_layers.FastResBlock(plain)):
        with LargeTensors(x.nbytes // 2) as large:
            block(x)
        counts.append(large.count)
    assert counts[0] >= 4
    assert counts[1] == 1


@pytest.mark.parametrize("channels", [32, 64])
def test_a_doubling_in_strips_gives_every_bit_of_a_whole_one(channels, monkeypatch):
    torch.manual_seed(0)
    doubling = fast_layers.fold_doubling(nn.Conv2d(channels, 48, 3, padding=1))
    x = torch.randn(2, channels, 13, 17).contiguous(memory_format=torch.channels_last)
    whole = doubling(x)
    monkeypatch.setattr(fast_layers, "DOUBLING_STRIP_BYTES", 3 * x[:, :, :1].numel() * x.element_size())
    with LargeTensors(2 * x.nbytes) as large:
        strips = doubling(x)
    assert torch.equal(strips, whole)
    assert large.count == 1


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_with_fewer_multiplications_is_as_exact_as_a_direct_one(bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(96, 64, 3, bias=bias).requires_grad_(False)
    x = torch.randn(2, 96, 10, 14).contiguous(memory_format=torch.channels_last)
    found = winograd.convolve(x, winograd.transformed(conv.weight), conv.bias)
    assert relative_error(found, conv.double()(x.double())) <= 3e-6
