"""On a graphics card (CUDA or ROCm), in under five minutes: `python -m pytest -s tests/gpu`.

Proves that the card computes what the CPU computes and that previews leave a generation as it is, and prints what
previews cost there. Skipped where there is no card.
"""

import statistics
import time

import pytest
import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.latent_formats import BY_NAME, Detection
from taesd_ext.models.fast import FastNetwork
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no graphics card")

DETAILS = ("1/8", "1/4", "1/2", "full")
SIDES = (512, 1024)
ROUNDS = 20
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def exact_float32():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def on_cpu(weights_dir) -> Codec:
    return load_codec("taesd", models_dir=weights_dir)


@pytest.fixture(scope="module", params=[None, "auto"], ids=["float32", "auto"])
def on_card(request, weights_dir) -> Codec:
    return load_codec("taesd", models_dir=weights_dir, device="cuda", dtype=request.param)


def latent_of(side: int) -> torch.Tensor:
    return torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(0))


def test_the_fast_form_passed_the_comparison(on_card):
    assert isinstance(on_card._decoder, FastNetwork)
    assert isinstance(on_card._encoder, FastNetwork)


@pytest.mark.parametrize("detail", DETAILS)
def test_decode_equals_the_cpus(on_cpu, on_card, detail):
    wanted = on_cpu.decode(latent_of(256), detail=detail)
    error = (on_card.decode(latent_of(256).cuda(), detail=detail).cpu() - wanted).square().mean()
    worst = -10 * error.clamp_min(1e-12).log10()
    print(f"\n{on_card.dtype} {detail}: {worst:.1f} dB")
    assert worst > (90 if on_card.dtype == torch.float32 else 55)


def test_encode_equals_the_cpus(on_cpu, on_card):
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    tolerance = 2e-3 if on_card.dtype == torch.float32 else 5e-2
    assert torch.allclose(on_card.encode(image.cuda()).cpu(), on_cpu.encode(image), atol=tolerance)


def test_tiles_and_a_latent_that_stays_below(on_cpu, on_card):
    latent, sides = latent_of(512), []
    whole = on_card.decode(latent.cuda(), tile="off")
    tiled = on_card.decode(latent.cuda(), tile=256, on_tiled=sides.append)
    assert sides
    assert torch.allclose(tiled, whole, atol=1e-5 if on_card.dtype == torch.float32 else 1e-2)
    assert on_cpu.decode(latent.cuda(), detail="1/4", device="cpu").device.type == "cpu"


@pytest.mark.parametrize("side", SIDES)
def test_what_a_frame_costs(on_card, side):
    latent = latent_of(side).cuda()
    for detail in DETAILS:
        on_card.decode(latent, detail=detail)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            on_card.decode(latent, detail=detail)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
        peak = (torch.cuda.max_memory_allocated() - before) / MIB
        print(f"\n{on_card.dtype} {side} px {detail}: {1000 * statistics.median(seconds):.2f} ms, {peak:.0f} MB")
        assert peak > 0


class Sampler:
    """A loop over a network that keeps the card busy, deterministic in its seed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(n, m, 3, padding=1) for n, m in ((4, 256), (256, 256), (256, 256), (256, 4))]
        self.network = torch.nn.Sequential(*layers).cuda().requires_grad_(False)

    def run(self, steps: int, after_step) -> torch.Tensor:
        generator = torch.Generator("cuda").manual_seed(7)
        x = torch.randn(1, 4, 64, 64, generator=generator, device="cuda")
        for step in range(1, steps + 1):
            for _ in range(20):
                x = x - 0.02 * self.network(x).tanh()
            x = x + 0.01 * torch.randn(x.shape, generator=generator, device="cuda")
            after_step(step, x)
        torch.cuda.synchronize()
        return x


@pytest.fixture
def deterministic():
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


def test_previews_leave_a_generation_as_it_is(on_card, deterministic):
    """The same seed gives the same bits with previews on and off; each step had its preview."""
    sampler, steps = Sampler(), 20
    state = torch.cuda.get_rng_state()
    without = sampler.run(steps, lambda step, x: None)
    session, shown = PreviewSession(lambda family: on_card), set()
    session.start(PreviewSettings(budget=0, min_time=0, detail="full"), steps)

    def preview(step: int, x: torch.Tensor) -> None:
        session.step(step, steps)
        frame = session.poll(x, Detection(BY_NAME["sd1"], ""))
        shown.add(frame and frame.number)

    assert torch.equal(sampler.run(steps, preview), without)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert len(shown - {None}) >= steps - 1


def test_one_stream_against_a_side_stream(on_card, deterministic):
    """What a preview every step adds to a loop, decoded in the sampler's stream and in one beside it."""
    sampler, steps = Sampler(), 20
    side = torch.cuda.Stream()

    def one(step: int, x: torch.Tensor) -> None:
        on_card.decode(x, detail="1/4").cpu()

    def beside(step: int, x: torch.Tensor) -> None:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x.record_stream(side)
            on_card.decode(x, detail="1/4").to("cpu", non_blocking=True)

    took: dict[str, list[float]] = {"none": [], "one stream": [], "side stream": []}
    results = []
    for _ in range(4):
        for name, after_step in zip(took, (lambda step, x: None, one, beside), strict=True):
            begun = time.perf_counter()
            results.append(sampler.run(steps, after_step))
            took[name].append(time.perf_counter() - begun)
    medians = {name: 1000 * statistics.median(seconds[1:]) for name, seconds in took.items()}
    print("\n" + ", ".join(f"{name}: {ms:.1f} ms" for name, ms in medians.items()))
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_full_card_is_recognised_and_the_picture_made_in_tiles(on_card):
    latent, sides = latent_of(2048).cuda(), []
    whole = on_card.decode(latent, tile=512).cpu()
    torch.cuda.empty_cache()
    free, _total = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - 700 * MIB), dtype=torch.uint8, device="cuda")
    try:
        image = on_card.decode(latent, on_tiled=sides.append, device="cpu")
    finally:
        del hog
        torch.cuda.empty_cache()
    assert sides
    assert torch.allclose(image, whole, atol=1e-5 if on_card.dtype == torch.float32 else 1e-2)
