"""The fast form is the plain network, up to rounding, whatever the strips of a full-size VAE are."""

import pytest
import torch
from diffusers_vaes import make_up, relative_error
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from taesd_ext.models import autoencoder_dc, autoencoder_kl, autoencoder_wan, fast_layers, tiny, winograd
from taesd_ext.models.dc_stages import Stage
from taesd_ext.models.fast import FastNetwork

ROUNDING = 2e-6

DECODERS = [
    pytest.param(tiny.Decoder, {"latent_channels": 4}, id="4-channel decoder"),
    pytest.param(tiny.Decoder, {"latent_channels": 32, "midblock_norm": True}, id="mid-block norm decoder"),
    pytest.param(tiny.F32Decoder, {}, id="32x decoder"),
    pytest.param(tiny.F16Decoder, {"widths": (32, 16, 8, 8)}, id="16x decoder"),
]
ENCODERS = [
    pytest.param(tiny.Encoder, {"latent_channels": 4}, id="4-channel encoder"),
    pytest.param(tiny.Encoder, {"latent_channels": 32, "midblock_norm": True}, id="mid-block norm encoder"),
    pytest.param(tiny.F32Encoder, {}, id="32x encoder"),
    pytest.param(tiny.F16Encoder, {"widths": (8, 8, 16, 32)}, id="16x encoder"),
]


def _random_network(network: type[nn.Sequential], options: dict) -> nn.Sequential:
    torch.manual_seed(0)
    return network(**options).requires_grad_(False).eval()


@pytest.mark.parametrize(("network", "options"), DECODERS + ENCODERS)
def test_the_fast_form_gives_the_plain_output_and_writes_into_nothing_of_others(network, options):
    plain = _random_network(network, options)
    weights = {key: value.clone() for key, value in plain.state_dict().items()}
    fast = FastNetwork(plain)
    sizes = [(64, 96)] if plain.part == "encoder" else [(3, 5), (1, 1)]
    for size in sizes:
        x = torch.randn(2, 3 if plain.part == "encoder" else plain.latent_channels, *size)
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            before = given.clone()
            assert relative_error(fast(given), plain(given)) <= ROUNDING
            assert torch.equal(given, before)
    for weight in fast.parameters():
        weight.zero_()
    assert all(torch.equal(value, weights[key]) for key, value in plain.state_dict().items())


@pytest.mark.parametrize(("network", "options"), DECODERS)
def test_stages_join_to_the_whole(network, options):
    fast = FastNetwork(_random_network(network, options))
    latent = torch.randn(1, fast.stages[0][1].in_channels, 2, 3)
    whole = fast(latent)
    for cut in range(1, len(fast.stages)):
        features = fast.run(latent, stop=cut)
        scale = fast.stages[cut - 1].scale
        assert features.shape[-1] * scale == whole.shape[-1]
        before = features.clone()
        assert torch.equal(fast.run(features, start=cut), whole)
        assert torch.equal(features, before)


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


@pytest.mark.parametrize(
    ("build", "dtype", "most"),
    [
        (lambda: autoencoder_kl.Decoder(**WIDTHS), torch.bfloat16, 0.1),
        (lambda: autoencoder_kl.Decoder(**WIDTHS), torch.float64, 1e-12),
        (lambda: autoencoder_dc.Decoder(**DC), torch.bfloat16, 0.1),
        (lambda: autoencoder_dc.Decoder(**DC), torch.float64, 1e-6),  # the plain norms compute in float32
    ],
)
def test_other_types_are_computed_without_strips(build, dtype, most):
    plain = make_up(build(), 0).to(dtype)
    x = torch.randn(1, 4, 5, 6, dtype=dtype)
    assert relative_error(FastNetwork(plain)(x), plain(x)) <= most


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
