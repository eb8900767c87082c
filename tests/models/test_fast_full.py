"""The fast form of a full-size VAE is the plain network, up to rounding, whatever its strips are."""

from __future__ import annotations

import pytest
import torch
from full_vae_reference import make_up, relative_error
from torch.utils._python_dispatch import TorchDispatchMode

from taesd_ext.models import autoencoder_kl, autoencoder_wan, fast_layers
from taesd_ext.models.fast import FastNetwork

WIDTHS = {"widths": (32, 32, 64, 64), "latent_channels": 4}
NETWORKS = [
    pytest.param(lambda: autoencoder_kl.Decoder(**WIDTHS), 4, id="KL decoder"),
    pytest.param(lambda: autoencoder_kl.Encoder(**WIDTHS), 3, id="KL encoder"),
    pytest.param(lambda: autoencoder_wan.Decoder(**WIDTHS, image_channels=12), 4, id="2x Wan decoder"),
    pytest.param(lambda: autoencoder_wan.Encoder(**WIDTHS), 3, id="Wan encoder"),
]


@pytest.mark.parametrize("strip_bytes", [20_000, 16 << 20])
@pytest.mark.parametrize(("build", "channels"), NETWORKS)
def test_it_gives_the_plain_output(build, channels, strip_bytes, monkeypatch):
    monkeypatch.setattr(fast_layers, "STRIP_BYTES", strip_bytes)
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


def test_devices_that_are_not_trusted_are_not_written_on(monkeypatch):
    plain = make_up(autoencoder_kl.Decoder(**WIDTHS), 0).double()  # in float64 there are no strips
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    network, wanted = FastNetwork(plain), plain(x)
    monkeypatch.setattr(fast_layers, "_TRUSTED", ())
    for name in ("add_", "mul_"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("written in place"))
    assert relative_error(network(x), wanted) <= 1e-12


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
