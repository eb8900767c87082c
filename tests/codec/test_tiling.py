"""Tiles give what the whole gives: the same bits on an x86 CPU in float32, within rounding elsewhere."""

import platform

import pytest
import torch

from taesd_ext.codec import tiling
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.tiling import Output, run_layers
from taesd_ext.latent_formats import native_format
from taesd_ext.models import tiny
from taesd_ext.models.fast import FastNetwork

SAME_BITS = platform.machine() in ("x86_64", "AMD64")
"""Elsewhere other libraries do the convolutions, and nobody has looked at the order of their sums."""

KINDS = {
    "plain": (8, 4, lambda: tiny.Decoder(4), lambda: tiny.Encoder(4)),
    "norm": (8, 32, lambda: tiny.Decoder(32, midblock_norm=True), lambda: tiny.Encoder(32, midblock_norm=True)),
    "f32": (32, 32, tiny.F32Decoder, tiny.F32Encoder),
    "f16": (16, 64, tiny.F16Decoder, tiny.F16Encoder),
}


def lively(network):
    """Weights under which every layer's output is about as big as its input, so that errors show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                gain = 1.0 if "conv" in name or "pool" in name else 2.0
                parameter.normal_(0, (gain / parameter[0].numel()) ** 0.5, generator=generator)
    return network.eval()


@pytest.fixture(scope="module", params=KINDS)
def networks(request):
    scale, channels, decoder, encoder = KINDS[request.param]
    return scale, channels, FastNetwork(lively(decoder())), FastNetwork(lively(encoder()))


@pytest.fixture
def output():
    return Output(torch.float32, torch.device("cpu"))


@pytest.fixture
def always_tiled(monkeypatch):
    monkeypatch.setattr(tiling, "WHOLE_BYTES", 0)
    monkeypatch.setattr(tiling, "TILE", 192)


def in_tiles(network, x, pixels, tile, output):
    layout = network.layout(x.device, x.dtype)
    return run_layers(network.layers(), x, pixels, tile, output, layout=layout)


def assert_same(tiled, whole):
    if SAME_BITS:
        assert torch.equal(tiled, whole)
    else:
        torch.testing.assert_close(tiled, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize(("size", "tile"), [((1, 1), "auto"), ((1, 200), 64), ((80, 3), "auto"), ((23, 30), 40)])
def test_any_size_in_any_tiles(networks, output, always_tiled, size, tile):
    scale, channels, decoder, encoder = networks
    height, width = (max(1, side * 8 // scale) for side in size)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, channels, height, width, generator=generator)
    image = torch.rand(1, 3, height * scale, width * scale, generator=generator)
    with torch.inference_mode():
        assert_same(in_tiles(decoder, latent, scale, tile, output), decoder(latent))
        assert_same(in_tiles(encoder, image, 1, tile, output), encoder(image))


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return Codec("taesd", native_format("taesd"), encoder=tiny.Encoder(4).eval(), decoder=tiny.Decoder(4).eval())


class TestCodec:
    def test_tile_changes_nothing(self, codec):
        latent, image = torch.randn(1, 4, 25, 25), torch.rand(1, 3, 197, 200)
        before = latent.clone()
        for detail in codec.details:
            tiled = codec.decode(latent, detail=detail, tile=64)
            assert_same(tiled, codec.decode(latent, detail=detail, tile="off"))
            assert tiled.is_contiguous()
            assert not tiled.is_inference()
        assert_same(codec.encode(image, tile=64), codec.encode(image, tile="off"))
        assert torch.equal(latent, before)

    def test_progress_rises_to_one(self, codec, always_tiled):
        for work, x in ((codec.decode, torch.randn(2, 4, 25, 25)), (codec.encode, torch.rand(1, 3, 200, 200))):
            told = []
            work(x, progress=told.append)
            assert len(told) >= 4
            assert told == sorted(told)
            assert told[-1] == 1
            told.clear()
            work(x[..., :8, :8], tile="off", progress=told.append)
            assert told == [1]

    def test_what_progress_raises_stops_the_decode(self, codec, always_tiled):
        with pytest.raises(ZeroDivisionError):
            codec.decode(torch.randn(1, 4, 25, 25), progress=lambda part: 1 / 0)

    @pytest.mark.usefixtures("half_on_cpu")
    def test_an_overflow_in_a_tile_is_done_again_in_float32(self, always_tiled):
        torch.manual_seed(0)
        decoder = tiny.Decoder(4).eval()
        with torch.no_grad():
            decoder[1].weight.mul_(1e6)
            decoder[-1].weight.mul_(1e-6)
        codec = Codec("taesd", native_format("taesd"), decoder=decoder, dtype=torch.float16)
        latent = torch.randn(1, 4, 24, 25)
        image = codec.decode(latent)
        assert image.isfinite().all()
        assert_same(image, codec.in_float32().decode(latent))
