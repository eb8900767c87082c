"""When a session decodes, for which step and which job, and who waits for whom."""

from __future__ import annotations

import threading

import pytest
import torch
from fake_codec import QUICK, SD1, FakeCodec, latent, session_of

from taesd_ext.codec.codec import Codec
from taesd_ext.latent_formats import native_format
from taesd_ext.models.tiny import Decoder
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")


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


def test_what_is_beyond_the_last_step_is_not_skipped(clock):
    session = session_of(FakeCodec(), clock, PreviewSettings(min_time=0, budget=0, skip_last=2), steps=4)
    shown = []
    for step in range(1, 8):
        session.step(step)
        shown.append(session.poll(latent(), SD1).number)
    assert shown == [1, 2, 2, 2, 3, 4, 5]


def test_minimum_time(clock):
    codec = FakeCodec()
    session = session_of(codec, clock, PreviewSettings(min_time=100, budget=0))
    for step in range(1, 11):
        session.step(step)
        session.poll(latent(), SD1)
        clock.now += 0.03
    assert len(codec.decoded) == 3


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
    frame = session.poll(latent(), SD1)
    assert (frame.step, frame.steps) == (21, 25)


def test_a_second_pass_that_begins_during_a_decode_is_shown_too(clock):
    """Latent hires fix begins it at once, while the first pass's last step is still being drawn."""

    class Overtaken(FakeCodec):
        def decode(self, latent, *, detail="full"):
            if session.progress == (20, 20) and len(self.decoded) == 1:
                session.step(0, steps=5)
                session.step(1, steps=5)
            return super().decode(latent, detail=detail)

    session = session_of(Overtaken(), clock)
    shown = []
    for step in (19, 20, None, 2, 3):
        if step is not None:
            session.step(step)
        shown.append(session.poll(latent(), SD1).step)
    assert shown == [19, 20, 21, 22, 23]


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
