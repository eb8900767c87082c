"""On a device that is not the CPU the fast form is believed only after a comparison with the plain network."""

import pytest
import torch
from torch.nn import functional

from taesd_ext.codec import placement
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.placement import difference
from taesd_ext.latent_formats import BY_NAME, native_format
from taesd_ext.models import autoencoder_kl, fast_layers, tiny
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.fast_layers import FastResBlock
from taesd_ext.models.full_vae import FullDecoder


class OtherDevice(str):
    """The CPU under another name, for what asks for the kind of device only."""

    type = "other"


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return tiny.Decoder(4).requires_grad_(False).eval()


def placed(network, dtype=torch.float32, device=None):
    return placement.placed(network, "decoder", native_format("taesd"), device or OtherDevice("cpu"), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sound_fast_forms_are_taken(plain, dtype):
    assert isinstance(placed(plain, dtype), FastNetwork)


def faulty_doubling(fault, words="NYI: channels last"):
    def forward(self, x):
        if fault == "raises":
            raise RuntimeError(words)
        shape = (1, self.out_channels, 2 * x.shape[2], 2 * x.shape[3])
        return torch.full(shape, float("nan") if fault == "nan" else 0.0)

    return forward


@pytest.mark.parametrize("fault", ["zeros", "raises", "nan"])
def test_the_plain_network_computes_where_the_fast_one_is_wrong(plain, fault, monkeypatch):
    monkeypatch.setattr(fast_layers.Doubling, "forward", faulty_doubling(fault))
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(placed(plain)(x), plain(x))
    assert isinstance(placed(plain, device=torch.device("cpu")), FastNetwork)


@pytest.mark.parametrize("fault", [None, "zeros"])
def test_a_full_vae_is_compared_too(fault, monkeypatch):
    torch.manual_seed(0)
    vae = FullDecoder(autoencoder_kl.Decoder(widths=(32, 32, 32, 32)), BY_NAME["sd1"])
    x = torch.randn(1, 4, 5, 6)
    with torch.no_grad():
        wanted = vae(x)
    if fault:
        monkeypatch.setattr(fast_layers.Doubling, "forward", faulty_doubling(fault))
    network = placed(vae)
    assert any(isinstance(layer, FastResBlock) for layer in network.modules()) == (fault is None)
    assert torch.allclose(network(x), wanted, atol=1e-5)


def test_memory_that_runs_out_in_the_comparison_is_no_fault_of_the_fast_form(plain, monkeypatch):
    monkeypatch.setattr(fast_layers.Doubling, "forward", faulty_doubling("raises", "MPS backend out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        difference(FastNetwork(plain), plain, torch.randn(1, 4, 5, 6))


def test_devices_that_are_not_trusted_get_plain_tensors(plain, monkeypatch):
    x = torch.randn(2, 4, 5, 6)
    wanted = FastNetwork(plain)(x)
    monkeypatch.setattr(fast_layers, "_TRUSTED", ())
    network, seen = FastNetwork(plain), []
    monkeypatch.setattr(fast_layers, "_bordered", lambda y, *_: functional.pad(y, (1, 1, 1, 1)))  # on the CPU
    for name in ("relu_", "add_", "tanh_", "mul_", "clamp_"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("written in place"))
    convolve = functional.conv2d
    monkeypatch.setattr(functional, "conv2d", lambda y, *rest: seen.append(y) or convolve(y, *rest))
    assert torch.allclose(network(x), wanted, atol=1e-5)
    assert all(y.is_contiguous() for y in seen)
    codec = Codec("taesd", native_format("taesd"), decoder=plain)
    assert torch.allclose(codec.decode(x), wanted.clamp(0, 1), atol=1e-5)
