"""Whatever is done to torch's layer classes while a job runs, our networks compute the same, to the bit."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional

from taesd_ext.models import autoencoder_dc, autoencoder_kl, autoencoder_wan, tiny, tiny_video
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork, fast_form
from taesd_ext.models.layers import circular
from taesd_ext.models.student import Head, Previewer

KL = {"widths": (32, 32, 32, 32), "latent_channels": 4}
DC = [
    autoencoder_dc.Stage(8, 1, batch_norm=batch_norm, attention=attention, scales=(5,))
    for batch_norm, attention in [(False, False), (True, False), (True, True)]
]

NETWORKS = {
    "tiny decoder": (lambda: tiny.Decoder(4), (4, 6, 5)),
    "tiny encoder": (lambda: tiny.Encoder(4), (3, 48, 40)),
    "norm": (lambda: tiny.Decoder(32, midblock_norm=True), (32, 6, 5)),
    "16x decoder": (tiny.F16Decoder, (64, 3, 4)),
    "fast decoder": (lambda: FastNetwork(tiny.Decoder(32, midblock_norm=True)), (32, 6, 5)),
    "fast encoder": (lambda: FastNetwork(tiny.Encoder(4)), (3, 48, 40)),
    "video decoder": (tiny_video.VideoDecoder, (16, 4, 5)),
    "video encoder": (tiny_video.VideoEncoder, (3, 32, 40)),
    "head": (lambda: Head(2), (64, 6, 5)),
    "previewer": (lambda: Previewer(32, overview=True), (32, 6, 5)),
    "KL decoder": (lambda: autoencoder_kl.Decoder(**KL), (4, 4, 5)),
    "KL encoder": (lambda: autoencoder_kl.Encoder(**KL), (3, 32, 40)),
    "fast KL decoder": (lambda: fast_form(autoencoder_kl.Decoder(**KL)), (4, 4, 5)),
    "fast KL encoder": (lambda: fast_form(autoencoder_kl.Encoder(**KL)), (3, 32, 40)),
    "fast Wan decoder": (lambda: fast_form(autoencoder_wan.Decoder(**KL)), (4, 4, 5)),
    "DC decoder": (lambda: autoencoder_dc.Decoder(4, DC, plain=True, head_channels=4), (4, 4, 5)),
    "DC encoder": (lambda: autoencoder_dc.Encoder(4, DC, plain=False, head_channels=4), (3, 16, 20)),
}


@pytest.fixture(params=NETWORKS)
def network_and_input(request):
    build, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    return build().requires_grad_(False).eval(), torch.randn(1, *shape)


def _torch_classes():
    return [kind for kind in vars(nn).values() if inspect.isclass(kind) and issubclass(kind, nn.Module)]


def test_replaced_methods_of_torchs_layers_change_nothing(network_and_input, monkeypatch):
    network, x = network_and_input
    wanted, weights = network(x), {name: value.clone() for name, value in network.state_dict().items()}

    def in_half(layer, *inputs, **_named):
        layer.half()
        return inputs[0].half()

    for kind in _torch_classes():
        for method in ("forward", "_conv_forward", "__call__"):
            if method in vars(kind):
                monkeypatch.setattr(kind, method, in_half)
    assert torch.equal(network(x), wanted)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in weights.items())


def test_hooks_autocast_and_the_default_type_change_nothing(network_and_input):
    """Hosts change the default type for all threads."""
    network, x = network_and_input
    wanted = network(x)
    with nn.modules.module.register_module_forward_hook(lambda layer, inputs, output: output * 0):
        assert torch.equal(network(x), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16), computing("cpu"):
        assert torch.equal(network(x), wanted)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(network(x), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "kind", ["tiny decoder", "fast decoder", "fast encoder", "video decoder", "KL decoder", "fast KL decoder"]
)
def test_circular_borders_continue_on_the_far_side(kind):
    """A picture shifted by whole latent positions gives the same result shifted: it has no border."""
    build, shape = NETWORKS[kind]
    torch.manual_seed(0)
    plain = build().requires_grad_(False).eval()
    network, x = circular(plain), torch.randn(1, *shape)
    result = network(x)
    factor = 8 if shape[0] == 3 else 1
    shifted = network(x.roll((factor, 2 * factor), (2, 3)))
    step = result.shape[-1] * factor // shape[-1]
    assert torch.allclose(shifted, result.roll((step, 2 * step), (2, 3)), atol=1e-5 * float(result.abs().max()))
    assert not torch.allclose(plain(x), result, atol=1e-3 * float(result.abs().max()))
    shared = zip(plain.parameters(), network.parameters(), strict=True)
    assert all(own is other for own, other in shared), "no second copy of the weights"


def test_circular_is_what_a_host_makes_of_its_layers():
    """A1111 sets ``padding_mode`` on the convolutions of its VAE."""
    torch.manual_seed(0)
    ours, theirs = tiny.conv3x3(3, 4).requires_grad_(False), nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    theirs.load_state_dict(ours.state_dict())
    theirs.padding_mode = "circular"
    x = torch.randn(1, 3, 5, 6)
    assert torch.equal(circular(ours)(x), theirs(x))
    assert torch.equal(ours(x), functional.conv2d(x, ours.weight, ours.bias, padding=1))
