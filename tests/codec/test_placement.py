"""On a device that is not the CPU the fast form is believed only after a comparison with the plain network."""

from __future__ import annotations

import pytest
import torch

from taesd_ext.codec import placement
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.placement import difference
from taesd_ext.latent_formats import native_format
from taesd_ext.models import fast, tiny
from taesd_ext.models.fast import FastDecoder


class OtherDevice(str):
    """The CPU under another name, for what asks for the kind of device only."""

    type = "other"


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return tiny.Decoder(4).requires_grad_(False).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sound_fast_forms_are_taken(plain, dtype):
    assert isinstance(placement.placed(plain, "decoder", 4, OtherDevice("cpu"), dtype), FastDecoder)


@pytest.mark.parametrize("fault", ["zeros", "raises", "nan"])
def test_the_plain_network_computes_where_the_fast_one_is_wrong(plain, fault, monkeypatch):
    def faulty(self, x):
        if fault == "raises":
            raise RuntimeError("NYI: channels last")
        return torch.full(
            (1, self.out_channels, 2 * x.shape[2], 2 * x.shape[3]), float("nan") if fault == "nan" else 0.0
        )

    monkeypatch.setattr(fast.Doubling, "forward", faulty)
    network = placement.placed(plain, "decoder", 4, OtherDevice("cpu"), torch.float32)
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(network(x), plain(x))
    assert isinstance(placement.placed(plain, "decoder", 4, torch.device("cpu"), torch.float32), FastDecoder)


def test_memory_that_runs_out_in_the_comparison_is_no_fault_of_the_fast_form(plain, monkeypatch):
    def no_memory(self, x):
        raise RuntimeError("MPS backend out of memory")

    monkeypatch.setattr(fast.Doubling, "forward", no_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        difference(FastDecoder(plain), plain, torch.randn(1, 4, 5, 6))


def test_devices_that_are_not_trusted_get_plain_tensors(plain, monkeypatch):
    x = torch.randn(2, 4, 5, 6)
    wanted = FastDecoder(plain)(x)
    monkeypatch.setattr(fast, "_TRUSTED", ())
    network, seen = FastDecoder(plain), []
    monkeypatch.setattr(fast, "_bordered", lambda y: torch.nn.functional.pad(y, (1, 1, 1, 1)))  # of the CPU alone
    for name in ("relu_", "add_", "tanh_", "mul_", "clamp_"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("written in place"))
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda y, *rest: seen.append(y) or convolve(y, *rest))
    assert torch.allclose(network(x), wanted, atol=1e-5)
    assert all(y.is_contiguous() for y in seen)
    codec = Codec("taesd", native_format("taesd"), decoder=plain)
    assert torch.allclose(codec.decode(x), wanted.clamp(0, 1), atol=1e-5)
