"""When a session decodes, for which step and which job, and who waits for whom."""

import threading

import pytest
import torch
from fake_codec import SD1, FakeCodec, latent, polls, session_of, settings

from taesd_ext.codec.codec import Codec
from taesd_ext.latent_formats import native_format
from taesd_ext.models.tiny import Decoder
from taesd_ext.preview.session import PreviewSession

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")


def test_one_decode_a_step_and_the_cached_frame_for_others(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    assert session.poll(latent(), SD1) is None
    (first,) = polls(session, [1])
    assert session.poll(latent(), SD1) is first
    (second,) = polls(session, [2])
    assert [first.number, second.number, second.step] == [1, 2, 2]
    assert len(codec.decoded) == 2
    assert second.image.size == second.full_size == (64, 64)


@pytest.mark.parametrize(("grid", "size"), [(False, (64, 64)), (True, (128, 128))])
def test_a_batch_is_a_grid_only_when_asked(clock, grid, size):
    session = session_of(FakeCodec(), clock)
    session.step(1)
    assert session.poll(latent(4), SD1, grid=grid).full_size == size


@pytest.mark.parametrize(
    ("chosen", "steps", "shown"),
    [
        ({"interval": 3, "skip_last": 2}, 10, [None, None, 3, 3, 3, 6, 6, 6, 6, 6]),
        ({"skip_last": 2}, 10, [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]),
        ({"min_time": 100}, 9, [1, 1, 1, 1, 5, 5, 5, 5, 9]),  # a step takes 30 ms
        ({"skip_last": 2}, 4, [1, 2, 2, 2, 4, 4, 4]),  # beyond the last step nothing is skipped
    ],
)
def test_which_steps_are_shown(clock, chosen, steps, shown):
    session = session_of(FakeCodec(), clock, settings(**chosen), steps)
    frames = polls(session, range(1, len(shown) + 1), clock, 0.03)
    assert [frame and frame.step for frame in frames] == shown
    assert session.frame.number == len({id(frame) for frame in frames if frame})


def test_settings_take_effect_at_once(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    assert polls(session, [1]) != [None]
    session.update(settings(enabled=False))
    assert polls(session, [2]) == [None]
    session.update(settings(detail="1/8"))
    assert session.poll(latent(), SD1).image.size == (8, 8)
    session.cancel()
    assert polls(session, [3]) == [None]
    assert codec.decoded == ["full", "1/8"]


def test_nothing_is_decoded_after_the_end_or_before_the_start(clock):
    session = PreviewSession(lambda family: FakeCodec(), clock)
    assert polls(session, [1]) == [None]
    session.start(settings(), 2)
    (frame,) = polls(session, [1])
    session.finish()
    assert polls(session, [2]) == [frame]
    session.start(settings(), 2)
    assert session.poll(latent(), SD1) is None


@pytest.mark.parametrize("during", [False, True])
def test_a_second_pass_is_shown_from_its_first_step(clock, during):
    """Latent hires fix begins it at once, while the first pass's last step is still being drawn."""

    class Overtaken(FakeCodec):
        def decode(self, latent, *, detail="full"):
            if during and session.progress == (20, 20) and len(self.decoded) == 1:
                session.step(0, steps=5)
                session.step(1, steps=5)
            return super().decode(latent, detail=detail)

    session = session_of(Overtaken(), clock)
    shown = polls(session, [19, 20])
    shown += [session.poll(latent(), SD1)] if during else polls(session, [1], steps=5)
    shown += polls(session, [2, 3])
    assert [frame.step for frame in shown] == [19, 20, 21, 22, 23]
    assert shown[-1].steps == 25


def test_no_decode_while_suspended(clock):
    session = session_of(FakeCodec(), clock)
    with session.suspended(), session.suspended():
        assert polls(session, [1]) == [None]
    assert session.poll(latent(), SD1)


def test_pollers_never_wait_for_a_decode(clock):
    started, go_on = threading.Event(), threading.Event()

    class SlowCodec(FakeCodec):
        def decode(self, latent, *, detail="full"):
            started.set()
            assert go_on.wait(120)
            return super().decode(latent, detail=detail)

    codec = SlowCodec()
    session = session_of(codec, clock)
    first = threading.Thread(target=polls, args=(session, [1]))
    first.start()
    assert started.wait(120)
    assert session.poll(latent(), SD1) is None
    go_on.set()
    first.join()
    assert session.poll(latent(), SD1).number == 1
    assert len(codec.decoded) == 1


def test_a_frame_is_never_shown_to_the_job_after_its_own(clock):
    """The job broke off, and another began while the frame was drawn."""

    class Overtaken(FakeCodec):
        def decode(self, latent, *, detail="full"):
            session.start(settings(), 20)
            return super().decode(latent, detail=detail)

    session = session_of(Overtaken(), clock)
    assert polls(session, [1]) == [None]
    assert session.frame is None
    assert session.stats.frames == 0


@pytest.mark.parametrize("requires_grad", [False, True])
def test_previews_change_neither_the_latent_nor_the_random_state(clock, requires_grad):
    torch.manual_seed(0)
    codec = Codec("taesd", native_format("taesd"), decoder=Decoder(4))
    session = session_of(codec, clock, settings(detail="Auto"), steps=50)
    held = torch.randn(2, 4, 2, 2, requires_grad=requires_grad)
    version, bits, state = held._version, held.detach().clone(), torch.get_rng_state()
    for step in range(1, 51):
        session.step(step)
        assert session.poll(held, SD1, grid=True).number == step
    assert torch.equal(held.detach(), bits)
    assert held._version == version
    assert held.grad is None
    assert torch.equal(torch.get_rng_state(), state)
