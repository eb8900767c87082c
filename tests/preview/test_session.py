"""When a session decodes, for which step and which job, and who waits for whom."""

import threading

import pytest
from fake_codec import SD1, FakeCodec, latent, polls, session_of, settings

from taesd_ext.preview.session import PreviewSession

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")


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
