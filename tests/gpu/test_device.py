"""On a second device, in under five minutes: `python -m pytest -s tests/gpu`.

A graphics card (CUDA or ROCm), or torch_xla on the CPU, with a queue and tensors of its own, where PJRT_DEVICE is CPU
(`.ci/xla` makes the environment). Proves that the device computes what the CPU computes and that previews leave a
generation as it is, and prints what previews cost on a card.
"""

import copy
import os
import statistics
import time

import pytest
import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.placement import placed
from taesd_ext.latent_formats import BY_NAME, Detection
from taesd_ext.models import autoencoder_dc, autoencoder_wan, winograd
from taesd_ext.models.autoencoder_kl import Decoder, Encoder
from taesd_ext.models.dc_stages import Stage
from taesd_ext.models.fast import FastNetwork, fast_form
from taesd_ext.models.full_vae import FullDecoder, GaussianEncoder
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings

IS_CARD = torch.cuda.is_available()
card = pytest.mark.skipif(not IS_CARD, reason="there is no graphics card")
pytestmark = pytest.mark.skipif(
    not IS_CARD and os.environ.get("PJRT_DEVICE") != "CPU", reason="there is no graphics card, PJRT_DEVICE is not CPU"
)

DETAILS = ("1/8", "1/4", "1/2", "full")
STEPS = 20
CLOSE = 2e-5
"""float32 in another order of sums."""
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def device():
    if not IS_CARD:
        return pytest.importorskip("torch_xla", reason="torch_xla is not installed").device()
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    return torch.device("cuda")


@pytest.fixture(scope="module")
def here(weights_dir) -> Codec:
    return load_codec("taesd", models_dir=weights_dir)


@pytest.fixture(scope="module", params=[None, pytest.param("auto", marks=card)], ids=["float32", "auto"])
def there(request, weights_dir, device) -> Codec:
    return load_codec("taesd", models_dir=weights_dir, device=device, dtype=request.param)


def latent_of(side: int) -> torch.Tensor:
    return torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(0))


def assert_close(found: torch.Tensor, wanted: torch.Tensor, codec: Codec, exact: float, narrow: float) -> None:
    """Within ``exact`` in float32, and within ``narrow`` in a narrower type."""
    assert torch.allclose(found.cpu(), wanted.cpu(), atol=exact if codec.dtype == torch.float32 else narrow)


def test_the_fast_form_passed_the_comparison(there):
    assert isinstance(there._decoder, FastNetwork)
    assert isinstance(there._encoder, FastNetwork)


@pytest.mark.parametrize("detail", DETAILS)
def test_decode_equals_the_cpus(here, there, device, detail):
    wanted, found = here.decode(latent_of(256), detail=detail), there.decode(latent_of(256).to(device), detail=detail)
    assert found.device.type == torch.device(device).type
    worst = -10 * (found.cpu() - wanted).square().mean().clamp_min(1e-12).log10()
    print(f"\n{there.dtype} {detail}: {worst:.1f} dB")
    assert worst > (90 if there.dtype == torch.float32 else 55)


def test_encode_equals_the_cpus(here, there, device):
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert_close(there.encode(image.to(device)), here.encode(image), there, 2e-3, 5e-2)


def test_tiles_seamless_borders_and_where_pictures_go(here, there, device):
    latent, sides = latent_of(512), []
    tiled = there.decode(latent.to(device), tile=256, on_tiled=sides.append)
    assert sides
    assert_close(tiled, here.decode(latent), there, CLOSE, 1e-2)
    small = latent_of(128)
    assert_close(there.circular().decode(small.to(device)), here.circular().decode(small), there, CLOSE, 1e-2)
    for codec in (here, there):
        assert codec.decode(small.to(device), detail="1/4", device="cpu").device.type == "cpu"


def small_vae(width: int, device) -> Codec:
    torch.manual_seed(0)
    small, scale = {"widths": (width,) * 4, "latent_channels": 4}, BY_NAME["sd1"]
    networks = {"encoder": GaussianEncoder(Encoder(**small), scale), "decoder": FullDecoder(Decoder(**small), scale)}
    return Codec("sd15-vae", scale, device=device, **networks)


def test_a_full_vae_gives_what_the_cpu_gives_with_fewer_multiplications(device):
    width, latent = winograd.LEAST_CHANNELS, latent_of(256)
    assert winograd.pays(torch.empty(width, width, 3, 3), *latent.shape[-2:])
    own, other = (small_vae(width, place) for place in ("cpu", device))
    assert_close(other.decode(latent.to(device)), own.decode(latent), other, CLOSE, 0)


SMALL = {"widths": (32,) * 4, "latent_channels": 4}
LATE = Stage(64, 1, attention=True, scales=(5,))
DC = {"latent_channels": 4, "stages": (Stage(32, 1), Stage(32, 1), LATE, LATE), "plain": True}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: Encoder(**SMALL), id="KL encoder"),
        pytest.param(lambda: Decoder(**SMALL), id="KL decoder"),
        pytest.param(lambda: autoencoder_wan.Decoder(**SMALL), id="Wan decoder"),
        pytest.param(lambda: autoencoder_dc.Decoder(**DC), id="DC decoder"),
    ],
)
def test_a_full_vaes_fast_form_gives_what_the_plain_one_gives_on_the_cpu(build, device):
    torch.manual_seed(0)
    plain = build().requires_grad_(False).eval()
    x = torch.rand(1, 3, 32, 64) if plain.part == "encoder" else torch.randn(1, 4, 4, 8)
    there = placed(copy.deepcopy(plain), plain.part, BY_NAME["sd1"], device, torch.float32)
    assert isinstance(there, type(fast_form(plain))), "the fast form failed the comparison"
    wanted = plain(x)
    off = float((there(x.to(device)).cpu() - wanted).abs().max() / wanted.abs().max())
    print(f"{off:.1e} off")
    assert off <= 2e-5


def test_a_full_vae_waits_on_the_cpu(device):
    codec, latent = small_vae(32, device), latent_of(32).to(device)
    before = codec.decode(latent).cpu()
    codec.park()
    weights = [weight for network in (codec._encoder, codec._decoder) for weight in network.parameters()]
    assert {weight.device.type for weight in weights} == {"cpu"}
    assert torch.equal(codec.decode(latent).cpu(), before)


@card
@pytest.mark.parametrize("side", [512, 1024])
def test_what_a_frame_costs(there, side):
    latent = latent_of(side).cuda()
    for detail in DETAILS:
        there.decode(latent, detail=detail)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = []
        for _ in range(STEPS):
            begun = time.perf_counter()
            there.decode(latent, detail=detail)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
        peak = (torch.cuda.max_memory_allocated() - before) / MIB
        print(f"\n{there.dtype} {side} px {detail}: {1000 * statistics.median(seconds):.2f} ms, {peak:.0f} MB")
        assert peak > 0


def random_states() -> list[torch.Tensor]:
    """Of the generators that everybody shares."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if IS_CARD else [])]


def sampled(device, after_step) -> torch.Tensor:
    """The end of a loop over a network that keeps the device's queue busy, deterministic in its seed."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(n, m, 3, padding=1) for n, m in ((4, 256), (256, 256), (256, 4))]
    network = torch.nn.Sequential(*layers).to(device).requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1, 4, 32, 32, generator=generator).to(device)
    for step in range(1, STEPS + 1):
        for _ in range(20):
            x = x - 0.02 * network(x).tanh()
        x = x + 0.01 * torch.randn(x.shape, generator=generator).to(device)
        if not IS_CARD:
            pytest.importorskip("torch_xla").sync()
        after_step(step, x)
    return x.cpu()


def test_previews_leave_a_generation_as_it_is(there, device):
    """The same seed gives the same bits with previews on and off; nearly each step had its preview."""
    without = sampled(device, lambda step, x: None)
    session, shown = PreviewSession(lambda family: there), set()
    session.start(PreviewSettings(budget=0, min_time=0, detail="1/4"), STEPS)

    def preview(step: int, x: torch.Tensor) -> None:
        session.step(step, STEPS)
        frame = session.poll(x, Detection(BY_NAME["sd1"], ""))
        shown.add(frame and frame.number)

    random = random_states()
    assert torch.equal(sampled(device, preview), without)
    assert all(map(torch.equal, random_states(), random))
    assert len(shown - {None}) >= 0.8 * STEPS


@card
def test_a_full_card_is_recognised_and_the_picture_made_in_tiles(there):
    latent, sides = latent_of(2048).cuda(), []
    whole = there.decode(latent, tile=512)
    torch.cuda.empty_cache()
    free, _total = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - 700 * MIB), dtype=torch.uint8, device="cuda")
    try:
        image = there.decode(latent, on_tiled=sides.append, device="cpu")
    finally:
        del hog
        torch.cuda.empty_cache()
    assert sides
    assert_close(image, whole, there, 1e-5, 1e-2)
