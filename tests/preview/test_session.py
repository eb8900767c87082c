from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import BY_NAME, Detection, ModelEvidence, detect, native_format
from taesd_ext.models.tiny import Decoder
from taesd_ext.preview.drawing import EMBEDDED, LINEAR
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings

SD1 = Detection(BY_NAME["sd1"], "test")
NOT_KNOWN = detect(ModelEvidence(channels=7))
QUICK = PreviewSettings(min_time=0, budget=0, detail="full")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeCodec:
    """Counts its decodes; fails as told."""

    def __init__(self, clock: Clock | None = None, cost: float = 0.0, details=("full", "1/2", "1/4", "1/8")) -> None:
        self.name = self.family = "taesd"
        self.format = native_format("taesd")
        self.spatial_scale_factor = 8
        self.details = details
        self.clock, self.cost = clock, cost
        self.device = torch.device("cpu")
        self.decoded: list[str] = []
        self.failing: dict[str, Exception | float] = {}

    def decode(self, latent, *, detail: str = "full"):
        self.decoded.append(detail)
        if self.clock:
            self.clock.now += self.cost
        failure = self.failing.get(detail)
        if isinstance(failure, Exception):
            raise failure
        scale = 8 // {"full": 1, "1/2": 2, "1/4": 4, "1/8": 8}[detail]
        value = failure if failure is not None else 0.5
        return torch.full((len(latent), 3, latent.shape[2] * scale, latent.shape[3] * scale), value)


@pytest.fixture(autouse=True)
def no_embedded_previewer(monkeypatch):
    """Most tests are about what comes when nothing else is there."""
    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: False)


@pytest.fixture
def clock():
    return Clock()


def session_of(codec, clock, settings=QUICK, steps=20) -> PreviewSession:
    session = PreviewSession(lambda family: codec, clock)
    session.start(settings, steps)
    return session


def latent(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8)


def test_one_decode_a_step_and_the_cached_frame_for_others(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    assert session.poll(latent(), SD1) is None
    session.step(1)
    first = session.poll(latent(), SD1)
    assert session.poll(latent(), SD1) is first
    session.step(2)
    second = session.poll(latent(), SD1)
    assert [first.number, second.number] == [1, 2]
    assert len(codec.decoded) == 2
    assert second.step == 2
    assert second.image.size == second.full_size == (64, 64)


def test_a_batch_is_a_grid_only_when_asked(clock):
    session = session_of(FakeCodec(), clock)
    session.step(1)
    assert session.poll(latent(4), SD1).full_size == (64, 64)
    session.step(2)
    assert session.poll(latent(4), SD1, grid=True).full_size == (128, 128)


def test_interval_and_skip_last(clock):
    codec = FakeCodec()
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=0, interval=3, skip_last=2), steps=10)
    shown = []
    for step in range(1, 11):
        session.step(step)
        shown.append(session.poll(latent(), SD1))
    assert [frame.step if frame else None for frame in shown] == [None, None, 3, 3, 3, 6, 6, 6, 6, 6]
    session.start(PreviewSettings(min_time=0, budget=0, skip_last=2), steps=10)
    shown = []
    for step in range(1, 11):
        session.step(step)
        shown.append(session.poll(latent(), SD1).step)
    assert shown == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]


def test_minimum_time(clock):
    codec = FakeCodec()
    session = session_of(codec, clock, PreviewSettings(min_time=100, budget=0))
    for step in range(1, 11):
        session.step(step)
        session.poll(latent(), SD1)
        clock.now += 0.03
    assert len(codec.decoded) == 3


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("detail", ["Auto", "full"])
def test_the_budget_holds_whatever_a_decode_costs(clock, cost, detail):
    codec = FakeCodec(clock, cost)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3, detail=detail), steps=400)
    for step in range(1, 401):
        clock.now += 0.25
        session.step(step)
        session.poll(latent(), SD1)
    assert session.stats.frames >= 1
    assert session.stats.seconds <= 0.03 * 100 + cost
    if cost <= 0.3:
        assert session.stats.frames >= 0.6 * min(400, 0.03 * 100 / cost)
    if detail == "full":
        assert set(codec.decoded) == {"full"}


def test_auto_starts_cheap_and_takes_more_when_there_is_time(clock):
    codec = FakeCodec(clock, 0.001)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3), steps=20)
    for step in range(1, 21):
        clock.now += 1
        session.step(step)
        session.poll(latent(), SD1)
    assert codec.decoded[0] == "1/8"
    assert codec.decoded[-1] == "full"


def test_slow_steps_pay_for_a_preview_within_the_step(clock):
    codec = FakeCodec(clock, 1.0, details=("full",))
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=10), steps=3)
    session.step(1)
    session.poll(latent(), SD1)
    session.step(2)
    for _ in range(30):
        clock.now += 1
        session.poll(latent(), SD1)
    assert session.stats.frames == 2


def test_a_lower_budget_while_the_job_runs_acts_at_once(clock):
    codec = FakeCodec(clock, 0.1)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=0), steps=20)
    for step in range(1, 11):
        clock.now += 0.1
        session.step(step)
        session.poll(latent(), SD1)
    session.update(PreviewSettings(min_time=0, budget=1))
    for step in range(11, 21):
        clock.now += 0.1
        session.step(step)
        session.poll(latent(), SD1)
    assert session.stats.frames == 11  # the first one under a new budget is on credit


def test_settings_take_effect_at_once(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    session.step(1)
    assert session.poll(latent(), SD1)
    session.update(PreviewSettings(min_time=0, budget=0, enabled=False))
    session.step(2)
    assert session.poll(latent(), SD1) is None
    session.update(PreviewSettings(min_time=0, budget=0, detail="1/8"))
    assert session.poll(latent(), SD1).image.size == (8, 8)
    session.cancel()
    session.step(3)
    assert session.poll(latent(), SD1) is None
    assert codec.decoded == ["full", "1/8"]


def test_nothing_is_decoded_after_the_end_or_before_the_start(clock):
    codec = FakeCodec()
    session = PreviewSession(lambda family: codec, clock)
    session.step(1)
    assert session.poll(latent(), SD1) is None
    session.start(QUICK, 2)
    session.step(1)
    frame = session.poll(latent(), SD1)
    session.step(2)
    session.finish()
    assert session.poll(latent(), SD1) is frame
    session.start(QUICK, 2)
    assert session.poll(latent(), SD1) is None


def test_a_second_pass_is_shown_from_its_first_step(clock):
    session = session_of(FakeCodec(), clock)
    session.step(20)
    session.poll(latent(), SD1)
    session.step(1, steps=5)
    assert session.poll(latent(), SD1).step == 1


def test_less_detail_when_more_fails_and_back_after_a_while(clock):
    codec = FakeCodec()
    codec.failing = {"full": torch.cuda.OutOfMemoryError("no memory"), "1/2": float("nan")}
    session = session_of(codec, clock)
    session.step(1)
    assert session.poll(latent(), SD1).detail == "1/4"
    session.step(2)
    session.poll(latent(), SD1)
    assert codec.decoded == ["full", "1/2", "1/4", "1/4"]
    assert "NaN" in session.last_error
    codec.failing = {}
    clock.now += 6
    session.step(3)
    assert session.poll(latent(), SD1).detail == "full"


def test_the_linear_preview_when_no_decoder_works(clock):
    calls = []

    def no_codec(family):
        calls.append(family)
        raise TaesdError("No weights", "none found", "Put them there")

    session = PreviewSession(no_codec, clock)
    session.start(QUICK, 20)
    for step in range(1, 6):
        session.step(step)
        frame = session.poll(latent(), SD1)
    assert frame.detail == LINEAR
    assert frame.image.size == (8, 8)
    assert frame.full_size == (64, 64)
    assert frame.number == 5
    assert calls == ["taesd"]
    assert session.last_error == "No weights: none found. Put them there."


def test_the_embedded_previewer_when_no_decoder_works(clock, monkeypatch):
    def previewer(name, **_):
        assert (name, torch.is_inference_mode_enabled()) == ("sd1", True)
        return lambda latent: torch.full((len(latent), 3, 16, 16), 0.5)

    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: name == "sd1")
    monkeypatch.setattr("taesd_ext.preview.drawing.load_previewer", previewer)
    codec = FakeCodec()
    codec.failing = dict.fromkeys(codec.details, RuntimeError("broken"))
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3))
    session.step(1)
    frame = session.poll(latent(), SD1)
    assert (frame.detail, frame.family, frame.image.size, frame.full_size) == (EMBEDDED, None, (16, 16), (64, 64))
    session.step(2)
    clock.now += 1
    assert session.poll(latent(), SD1).number == 2
    assert codec.decoded == ["1/8"]


def test_the_budget_holds_for_the_embedded_previewer(clock, monkeypatch):
    def load_previewer(name, **_):
        def preview(latent):
            clock.now += 0.05
            return torch.full((len(latent), 3, 16, 16), 0.5)

        return preview

    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: True)
    monkeypatch.setattr("taesd_ext.preview.drawing.load_previewer", load_previewer)
    codec = FakeCodec()
    codec.failing = dict.fromkeys(codec.details, RuntimeError("broken"))
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3), steps=400)
    for step in range(1, 401):
        clock.now += 0.25
        session.step(step)
        session.poll(latent(), SD1)
    assert 0.5 * 3 < session.stats.seconds <= 3 + 0.05


def test_the_last_frame_stays_and_previews_stop_when_nothing_works(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    session.step(1)
    frame = session.poll(latent(), SD1)
    broken = torch.full((1, 4, 8, 8), float("nan"))
    codec.failing = dict.fromkeys(codec.details, RuntimeError("broken"))
    for step in range(2, 19):
        clock.now += 61
        session.step(step)
        assert session.poll(broken, SD1) is frame
    assert len(codec.decoded) == 1 + 3 * 4
    session.start(QUICK, 3)
    codec.failing = {}
    session.step(1)
    assert session.poll(latent(), SD1).detail == "full"


def test_unknown_models_show_what_fits_and_say_why(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    session.step(1)
    assert session.poll(torch.randn(1, 7, 8, 8), NOT_KNOWN) is None
    assert "7 channels" in session.last_error
    session.step(2)
    assert session.poll(torch.randn(1, 16, 8, 8), detect(ModelEvidence(channels=16))).detail == LINEAR
    wan = Detection(dataclasses.replace(BY_NAME["wan21"], family=None), "test")
    session.step(3)
    assert session.poll(torch.randn(1, 16, 3, 8, 8), wan).full_size == (64, 64)
    assert "no tiny decoder for Wan" in session.last_error
    assert codec.decoded == []


def test_the_family_chosen_wins_over_the_detected_one(clock):
    asked = []
    codec = FakeCodec()
    session = PreviewSession(lambda family: (asked.append(family), codec)[1], clock)
    session.start(PreviewSettings(family="taesdxl", min_time=0, budget=0), 5)
    session.step(1)
    session.poll(latent(), NOT_KNOWN)
    session.update(PreviewSettings(family="built-in TAESD", min_time=0, budget=0))
    session.step(2)
    session.poll(latent(), SD1)
    assert asked == ["taesdxl"]
    assert len(codec.decoded) == 1


def test_largest_side_spares_decoding_what_is_not_shown(clock):
    codec = FakeCodec()
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=0, max_side=32, detail="full"))
    session.step(1)
    frame = session.poll(torch.randn(1, 4, 16, 8), SD1)
    assert frame.detail == "1/4"
    assert frame.image.size == (16, 32)
    assert frame.full_size == (16, 32)


def test_no_decode_while_suspended(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    session.step(1)
    with session.suspended(), session.suspended():
        assert session.poll(latent(), SD1) is None
    assert session.poll(latent(), SD1)


def test_pollers_never_wait_for_a_decode(clock):
    started, go_on = threading.Event(), threading.Event()

    class SlowCodec(FakeCodec):
        def decode(self, latent, *, detail="full"):
            started.set()
            assert go_on.wait(10)
            return super().decode(latent, detail=detail)

    codec = SlowCodec()
    session = session_of(codec, clock)
    session.step(1)
    first = threading.Thread(target=session.poll, args=(latent(), SD1))
    first.start()
    assert started.wait(10)
    assert session.poll(latent(), SD1) is None
    go_on.set()
    first.join()
    assert session.poll(latent(), SD1).number == 1
    assert len(codec.decoded) == 1


def test_a_frame_is_never_shown_to_the_job_after_its_own(clock):
    """The job broke off, and another began while the frame was drawn."""

    class Overtaken(FakeCodec):
        def decode(self, latent, *, detail="full"):
            session.start(QUICK, 20)
            return super().decode(latent, detail=detail)

    session = session_of(Overtaken(), clock)
    session.step(1)
    assert session.poll(latent(), SD1) is None
    assert session.frame is None
    assert session.stats.frames == 0


def test_1000_previews_change_neither_the_latent_nor_the_random_state(clock):
    torch.manual_seed(0)
    codec = Codec("taesd", native_format("taesd"), decoder=Decoder(4))
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=0), steps=1000)
    for held in (torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2, requires_grad=True)):
        version, bits, state = held._version, held.detach().clone(), torch.get_rng_state()
        for step in range(1, 501):
            session.step(step)
            assert session.poll(held, SD1, grid=True).number == session.stats.frames
        assert torch.equal(held.detach(), bits)
        assert held._version == version
        assert held.grad is None
        assert torch.equal(torch.get_rng_state(), state)
    assert session.stats.frames == 1000


def test_a_poll_never_raises(clock):
    session = session_of(FakeCodec(), clock)
    session.step(1)
    assert session.poll(torch.tensor(1.0), SD1) is None
    assert session.last_error
    assert session.poll(None, SD1) is None
