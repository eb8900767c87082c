"""A session's budget and detail: what a preview may cost, and what is then shown."""

import pytest
import torch
from fake_codec import SD1, FakeCodec, latent, polls, session_of, settings

from taesd_ext.preview.drawing import EMBEDDED

COSTLY = {"full": 2.0, "1/2": 0.5, "1/4": 0.02, "1/8": 0.005}


@pytest.fixture
def embedded(monkeypatch, clock):
    """Makes a previewer that takes so many seconds; without it there is none."""

    def make(seconds: float) -> None:
        def load_previewer(name, **_):
            def preview(latent):
                clock.now += seconds
                return torch.full((len(latent), 3, 16, 16), 0.5)

            return preview

        monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: True)
        monkeypatch.setattr("taesd_ext.preview.drawing.load_previewer", load_previewer)

    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: False)
    return make


@pytest.mark.parametrize("cost", [0.001, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("decoder_works", [True, False])
def test_the_budget_holds_whatever_a_preview_costs(clock, embedded, cost, decoder_works):
    codec = FakeCodec(clock, cost)
    if not decoder_works:
        embedded(cost)
        codec.cost, codec.failing = 0, dict.fromkeys(codec.details, RuntimeError("broken"))
    session = session_of(codec, clock, settings(budget=3, detail="Auto"), steps=100)
    polls(session, range(1, 101), clock, 1)
    assert session.stats.frames >= 1
    assert session.stats.seconds <= 0.03 * 100 + cost
    if cost <= 0.3:
        assert session.stats.frames >= 0.6 * min(100, 0.03 * 100 / cost)


def test_auto_starts_cheap_and_takes_more_when_there_is_time(clock, embedded):
    codec = FakeCodec(clock, 0.001)
    polls(session_of(codec, clock, settings(budget=3, detail="Auto")), range(1, 21), clock, 1)
    assert (codec.decoded[0], codec.decoded[-1]) == ("1/8", "full")


@pytest.mark.parametrize(
    ("chosen", "cheapest"),
    [({}, EMBEDDED), ({"detail": "1/4"}, EMBEDDED), ({"detail": "1/8"}, "1/8"), ({"max_side": 8}, "1/8")],
)
def test_weights_make_no_preview_smaller_than_the_one_without_any(clock, embedded, chosen, cheapest):
    embedded(0.001)
    codec = FakeCodec(clock, COSTLY)
    session = session_of(codec, clock, settings(**{"budget": 3, "detail": "Auto", "max_side": 0, **chosen}))
    frames = polls(session, range(1, 21), clock, 0.1)
    assert frames[0].detail == cheapest
    assert {frame.image.size for frame in frames} == {(8, 8) if cheapest == "1/8" else (16, 16)}


def test_slow_steps_pay_for_a_preview_within_the_step(clock, embedded):
    session = session_of(FakeCodec(clock, 1.0, details=("full",)), clock, settings(budget=10), steps=3)
    polls(session, [1, 2])
    for _ in range(30):
        clock.now += 1
        session.poll(latent(), SD1)
    assert session.stats.frames == 2


def test_a_lower_budget_while_the_job_runs_acts_at_once(clock, embedded):
    session = session_of(FakeCodec(clock, 0.1), clock)
    polls(session, range(1, 11), clock, 0.1)
    session.update(settings(budget=1))
    polls(session, range(11, 21), clock, 0.1)
    assert session.stats.frames == 10


def test_largest_side_spares_decoding_what_is_not_shown(clock, embedded):
    session = session_of(FakeCodec(), clock, settings(max_side=32))
    session.step(1)
    frame = session.poll(torch.randn(1, 4, 16, 8), SD1)
    assert (frame.detail, frame.image.size, frame.full_size) == ("1/4", (16, 32), (16, 32))


@pytest.mark.parametrize("offered", [("full",), ("full", "1/2", "1/4", "1/8")])
@pytest.mark.parametrize("detail", ["Auto", "1/4"])
@pytest.mark.parametrize("evaluations", [20, 57])
def test_a_sampler_is_shown_to_its_end_and_beyond(clock, embedded, offered, detail, evaluations):
    """HeunPP2 asks its model up to three times a step, and DPM adaptive as often as it likes."""
    codec = FakeCodec(clock, 0.001, details=offered)
    session = session_of(codec, clock, settings(budget=3, detail=detail))
    shown = polls(session, range(1, evaluations + 1), clock, 1, steps=20)
    assert [frame.number for frame in shown] == list(range(1, evaluations + 1))
    assert [frame.step for frame in shown] == [min(number, 20) for number in range(1, evaluations + 1)]
    assert session.progress == (20, 20)


def test_a_chosen_detail_that_costs_too_much_gives_way_and_the_frame_says_so(clock, embedded):
    session = session_of(FakeCodec(clock, COSTLY), clock, settings(budget=3), steps=30)
    polls(session, range(1, 30), clock, 1)
    assert session.stats.frames >= 25
    assert session.frame.detail != "full"
    assert session.frame.over_budget
    session.start(settings(budget=3, detail="1/4"), 30)
    polls(session, range(1, 30), clock, 1)
    assert (session.frame.detail, session.frame.over_budget) == ("1/4", False)
