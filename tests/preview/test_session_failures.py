"""What a session shows when decoders fail, are missing, or the model is not known."""


import pytest
import torch
from fake_codec import SD1, FakeCodec, latent, polls, session_of, settings

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import ModelEvidence, detect
from taesd_ext.preview.drawing import LINEAR
from taesd_ext.preview.session import PreviewSession

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")

NOT_KNOWN = detect(ModelEvidence(channels=7))
BROKEN = RuntimeError("broken")


def test_less_detail_when_more_fails_and_back_after_a_while(clock):
    codec = FakeCodec()
    codec.failing = {"full": torch.cuda.OutOfMemoryError("no memory"), "1/2": float("nan")}
    session = session_of(codec, clock)
    assert [frame.detail for frame in polls(session, [1, 2])] == ["1/4", "1/4"]
    assert codec.decoded == ["full", "1/2", "1/4", "1/4"]
    assert "NaN" in session.last_error
    codec.failing = {}
    assert polls(session, [3], clock, 6)[0].detail == "full"


def test_the_linear_preview_until_the_weights_arrive(clock):
    asked, arrived = [], []

    def codec_for(family):
        asked.append(family)
        if not arrived:
            raise TaesdError("No weights", "none found", "Put them there")
        return FakeCodec()

    session = PreviewSession(codec_for, clock)
    session.start(settings(), 20)
    frame = polls(session, range(1, 6))[-1]
    assert (frame.number, frame.detail, frame.image.size, frame.full_size) == (5, LINEAR, (8, 8), (64, 64))
    assert asked == ["taesd"]
    assert session.last_error == "No weights: none found. Put them there."
    arrived.append(True)
    assert polls(session, [6], clock, 6)[0].detail == "full"
    assert session.last_error is None


def test_the_last_frame_stays_and_previews_stop_when_nothing_works(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    (frame,) = polls(session, [1])
    codec.failing = dict.fromkeys(codec.details, BROKEN)
    for step in range(2, 19):
        clock.now += 61
        session.step(step)
        assert session.poll(torch.full((1, 4, 8, 8), float("nan")), SD1) is frame
    assert len(codec.decoded) == 1 + 3 * 4
    session.start(settings(), 3)
    codec.failing = {}
    assert polls(session, [1])[0].detail == "full"


def test_the_last_error_is_kept_until_a_job_ends_that_had_previews_and_no_trouble(clock):
    codec = FakeCodec()
    session = PreviewSession(lambda family: codec, clock)

    def job(*, steps=range(1, 4), detection=SD1) -> str | None:
        clock.now += 100
        session.start(settings(), 3)
        for step in steps:
            session.step(step)
            session.poll(latent(), detection)
        session.finish()
        return session.last_error

    codec.failing = {"full": BROKEN}
    assert "broken" in job()
    codec.failing = {}
    assert "broken" in job(steps=())
    assert job() is None
    assert "7 channels" in job(detection=NOT_KNOWN)
    assert "7 channels" in job(detection=NOT_KNOWN), "said by each job anew"
    assert job() is None


def test_the_family_chosen_wins_over_the_detected_one(clock):
    asked = []
    session = PreviewSession(lambda family: (asked.append(family), FakeCodec())[1], clock)
    session.start(settings(family="taesdxl"), 5)
    session.step(1)
    assert session.poll(latent(), NOT_KNOWN).number == 1
    session.update(settings(family="built-in TAESD"))
    assert polls(session, [2])[0].number == 1
    assert asked == ["taesdxl"]


def test_a_picture_that_is_nan_hides_only_itself(clock):
    class OneIsNaN(FakeCodec):
        def decode(self, latent, *, detail="full"):
            image = super().decode(latent, detail=detail)
            image[2, :, 3, 3] = float("nan")
            return image

    session = session_of(OneIsNaN(), clock)
    session.step(1)
    frame = session.poll(latent(4), SD1, grid=True)
    shades = [frame.image.picture.getpixel(place)[0] for place in ((9, 9), (99, 9), (9, 99), (99, 99))]
    assert (frame.detail, shades) == ("full", [128, 128, 0, 128])


def test_what_fails_before_the_decode_is_a_rung_too(clock, monkeypatch):
    class NoHome(FakeCodec):
        details = property(lambda self: 1 / 0, lambda self, given: None)

    session = session_of(NoHome(), clock)
    assert polls(session, [1])[0].detail == LINEAR
    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: 1 / 0)
    assert polls(session, [2])[0].number == 2
