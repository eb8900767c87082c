"""Everything on a second device: torch_xla computes on the CPU, with a queue and tensors of its own.

Needs torch_xla and PJRT_DEVICE=CPU; skipped elsewhere. `.ci/xla` makes the environment and runs this.
"""

import os

import pytest
import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.latent_formats import BY_NAME, Detection
from taesd_ext.models import winograd
from taesd_ext.models.autoencoder_kl import Decoder, Encoder
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.full_vae import FullDecoder, GaussianEncoder
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings

torch_xla = pytest.importorskip("torch_xla", reason="torch_xla is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("PJRT_DEVICE") != "CPU", reason="PJRT_DEVICE is not CPU")

CLOSE = 2e-5
"""float32 in another order of sums."""


@pytest.fixture(scope="module")
def device():
    return torch_xla.device()


@pytest.fixture(scope="module")
def codecs(weights_dir, device):
    return load_codec("taesd", models_dir=weights_dir), load_codec("taesd", models_dir=weights_dir, device=device)


@pytest.fixture
def latent():
    return torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))


def test_the_fast_form_passed_the_comparison(codecs):
    assert isinstance(codecs[1]._decoder, FastNetwork)
    assert isinstance(codecs[1]._encoder, FastNetwork)


@pytest.mark.parametrize("detail", ["full", "1/2", "1/4", "1/8"])
def test_decode(codecs, device, latent, detail):
    here, there = codecs
    assert detail in there.details
    image = there.decode(latent.to(device), detail=detail)
    assert image.device == device
    assert torch.allclose(image.cpu(), here.decode(latent, detail=detail), atol=CLOSE)


def test_nothing_goes_back_up(codecs, device, latent):
    here, there = codecs
    assert here.decode(latent.to(device), device="cpu").device.type == "cpu"
    assert there.decode(latent.to(device), device="cpu").device.type == "cpu"


def test_encode(codecs, device):
    here, there = codecs
    image = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(there.encode(image.to(device)).cpu(), here.encode(image), atol=2e-3)


def test_finished_pictures_in_tiles_and_without_borders(codecs, device, latent):
    here, there = codecs
    sides, large = [], latent.repeat(1, 1, 2, 2)
    tiled = there.decode(large.to(device), tile=200, on_tiled=sides.append)
    assert torch.allclose(tiled.cpu(), here.decode(large), atol=CLOSE)
    assert sides
    seamless = there.circular().decode(latent.to(device))
    assert torch.allclose(seamless.cpu(), here.circular().decode(latent), atol=CLOSE)


def small_vae(width, device):
    torch.manual_seed(0)
    small, scale = {"widths": (width,) * 4, "latent_channels": 4}, BY_NAME["sd1"]
    networks = {"encoder": GaussianEncoder(Encoder(**small), scale), "decoder": FullDecoder(Decoder(**small), scale)}
    return Codec("sd15-vae", scale, device=device, **networks)


def test_a_full_vae_gives_what_the_cpu_gives_with_fewer_multiplications(device, latent):
    width, large = winograd.LEAST_CHANNELS, latent.repeat(1, 1, 2, 1)
    assert winograd.pays(torch.empty(width, width, 3, 3), *large.shape[-2:])
    here, there = (small_vae(width, place) for place in ("cpu", device))
    off = (there.decode(large.to(device)).cpu() - here.decode(large)).abs().max()
    print(f"{off:.1e} off")
    assert off <= CLOSE


def test_a_full_vae_waits_on_the_cpu(device):
    codec = small_vae(32, device)
    latent = torch.randn(1, 4, 4, 4).to(device)
    before = codec.decode(latent).cpu()
    codec.park()
    assert {weight.device.type for network in (codec._encoder, codec._decoder) for weight in network.parameters()} == {
        "cpu"
    }
    assert torch.equal(codec.decode(latent).cpu(), before)


def test_previews_beside_a_busy_queue(codecs, device):
    """Thirty steps, each with work in the queue that is not the preview's: nearly all are shown.

    The device compiles the first of them, which takes a hundred times as long as the next.
    """
    session, found = PreviewSession(lambda family: codecs[1]), Detection(BY_NAME["sd1"], "")
    latent, busy = torch.randn(1, 4, 16, 16).to(device), torch.randn(700, 700).to(device)
    session.start(PreviewSettings(detail="1/4", min_time=0), 30)
    shown = set()
    for step in range(1, 31):
        for _ in range(12):
            busy = (busy @ busy).tanh()
        latent = latent + busy[0, 0] * 0
        torch_xla.sync()
        session.step(step, 30)
        frame = session.poll(latent, found)
        shown.add(frame and frame.number)
    print(f"{len(shown - {None})} of 30 previews")
    assert len(shown - {None}) >= 25


def test_let_go(weights_dir, device):
    registry = CodecRegistry(lambda: [weights_dir])
    registry.get("taesd", device=device)
    registry.release()
    assert not registry._codecs
