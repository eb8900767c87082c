"""A session's budget and detail: what a preview may cost, and what is then shown."""

from __future__ import annotations

import pytest
import torch
from fake_codec import SD1, FakeCodec, latent, run_steps, session_of

from taesd_ext.settings import PreviewSettings

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.05, 0.3, 2.0])
def test_the_budget_holds_whatever_a_decode_costs(clock, cost):
    codec = FakeCodec(clock, cost)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3), steps=400)
    run_steps(session, clock, range(1, 401), 0.25)
    assert session.stats.frames >= 1
    assert session.stats.seconds <= 0.03 * 100 + cost
    if cost <= 0.3:
        assert session.stats.frames >= 0.6 * min(400, 0.03 * 100 / cost)


def test_auto_starts_cheap_and_takes_more_when_there_is_time(clock):
    codec = FakeCodec(clock, 0.001)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3), steps=20)
    run_steps(session, clock, range(1, 21), 1)
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
    run_steps(session, clock, range(1, 11), 0.1)
    session.update(PreviewSettings(min_time=0, budget=1))
    run_steps(session, clock, range(11, 21), 0.1)
    assert session.stats.frames == 11  # the first one under a new budget is on credit


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
    run_steps(session, clock, range(1, 401), 0.25)
    assert 0.5 * 3 < session.stats.seconds <= 3 + 0.05


def test_largest_side_spares_decoding_what_is_not_shown(clock):
    codec = FakeCodec()
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=0, max_side=32, detail="full"))
    session.step(1)
    frame = session.poll(torch.randn(1, 4, 16, 8), SD1)
    assert frame.detail == "1/4"
    assert frame.image.size == (16, 32)
    assert frame.full_size == (16, 32)


@pytest.mark.parametrize("offered", [("full",), ("full", "1/2", "1/4", "1/8")])
@pytest.mark.parametrize("detail", ["Auto", "1/4"])
def test_a_sampler_beyond_its_steps_is_shown_to_its_end(clock, offered, detail):
    """HeunPP2 asks its model up to three times a step, and DPM adaptive as often as it likes."""
    codec = FakeCodec(clock, 0.001, details=offered)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3, detail=detail), steps=20)
    shown = []
    for evaluation in range(1, 58):
        clock.now += 1
        session.step(evaluation, 20)
        shown.append(session.poll(latent(), SD1))
    assert [frame.number for frame in shown] == list(range(1, 58))
    assert [frame.step for frame in shown] == [min(evaluation, 20) for evaluation in range(1, 58)]
    assert session.progress == (20, 20)


def test_the_last_step_is_shown_where_there_is_one_detail_only(clock):
    codec = FakeCodec(clock, 0.001)
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3, detail="1/4"), steps=20)
    run_steps(session, clock, range(1, 21), 1)
    assert session.frame.step == 20


def test_a_chosen_detail_that_costs_too_much_gives_way_and_the_frame_says_so(clock):
    codec = FakeCodec(clock, {"full": 2.0, "1/2": 0.5, "1/4": 0.02, "1/8": 0.005})
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3, detail="full"), steps=30)
    run_steps(session, clock, range(1, 30), 1)
    assert session.stats.frames >= 25
    assert session.frame.detail != "full"
    assert session.frame.over_budget
    session.start(PreviewSettings(min_time=0, budget=3, detail="1/4"), 30)
    run_steps(session, clock, range(1, 30), 1)
    assert (session.frame.detail, session.frame.over_budget) == ("1/4", False)
