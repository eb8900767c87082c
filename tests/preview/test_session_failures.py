"""What a session shows when decoders fail, are missing, or the model is not known."""

import dataclasses

import pytest
import torch
from fake_codec import SD1, FakeCodec, latent, polls, session_of, settings

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import BY_NAME, LATENT_FORMATS, Detection, ModelEvidence, detect
from taesd_ext.models.latent_rgb import RgbFactors
from taesd_ext.preview.drawing import EMBEDDED, LEARNT, LINEAR, linear_painter
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


def test_the_embedded_previewer_when_no_decoder_works(clock, monkeypatch):
    def previewer(name, **_):
        assert (name, torch.is_grad_enabled()) == ("sd1", False)
        return lambda latent: torch.full((len(latent), 3, 16, 16), 0.5)

    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: name == "sd1")
    monkeypatch.setattr("taesd_ext.preview.drawing.load_previewer", previewer)
    codec = FakeCodec()
    codec.failing = dict.fromkeys(codec.details, BROKEN)
    session = session_of(codec, clock, settings(budget=3, detail="Auto"))
    for number, frame in enumerate(polls(session, [1, 2], clock, 1), 1):
        assert (frame.number, frame.detail) == (number, EMBEDDED)
        assert (frame.image.size, frame.full_size) == ((16, 16), (64, 64))


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


def test_unknown_models_show_what_fits_and_say_why(clock):
    codec = FakeCodec()
    session = session_of(codec, clock)
    wan = Detection(dataclasses.replace(BY_NAME["wan21"], family=None), "test")
    for step, (shape, detection, size, why) in enumerate(
        [
            ((1, 7, 8, 8), NOT_KNOWN, None, "7 channels"),
            ((1, 16, 8, 8), detect(ModelEvidence(channels=16)), (64, 64), "16 channels"),
            ((1, 16, 3, 8, 8), wan, (64, 64), "no tiny decoder for Wan"),
        ],
        1,
    ):
        session.step(step)
        frame = session.poll(torch.randn(shape), detection)
        assert (frame and (frame.detail, frame.full_size)) == (size and (LINEAR, size))
        assert why in session.last_error
    assert codec.decoded == []


def test_the_family_chosen_wins_over_the_detected_one(clock):
    asked = []
    session = PreviewSession(lambda family: (asked.append(family), FakeCodec())[1], clock)
    session.start(settings(family="taesdxl"), 5)
    session.step(1)
    assert session.poll(latent(), NOT_KNOWN).number == 1
    session.update(settings(family="built-in TAESD"))
    assert polls(session, [2])[0].number == 1
    assert asked == ["taesdxl"]


def test_a_poll_never_raises(clock):
    session = session_of(FakeCodec(), clock)
    session.step(1)
    assert session.poll(torch.tensor(1.0), SD1) is None
    assert session.last_error
    assert session.poll(None, SD1) is None


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


def test_what_was_learnt_draws_what_has_no_decoder(clock):
    class Shade:
        def preview(self, latent):
            return torch.full((len(latent), 3, 2 * latent.shape[-2], 2 * latent.shape[-1]), 0.5)

    learnt = Shade()
    session = PreviewSession(lambda family: FakeCodec(), clock, lambda channels: learnt if channels == 7 else None)
    session.start(settings(), 20)
    for step, shape in enumerate([(1, 7, 8, 8), (1, 7, 1, 8, 8)], 1):
        session.step(step)
        frame = session.poll(torch.randn(shape), NOT_KNOWN)
        assert (frame.number, frame.detail, frame.image.size, frame.full_size) == (step, LEARNT, (16, 16), (64, 64))
    assert polls(session, [3])[0].detail == "full"


@pytest.mark.parametrize(
    ("evidence", "is_drawn"),
    [
        (ModelEvidence(channels=24), True),
        (ModelEvidence(latent_format="Invented", channels=24), False),
        (ModelEvidence(latent_format="Invented", channels=24, rgb=RgbFactors(((0.1, 0.1, 0.1),) * 24)), True),
    ],
)
def test_a_format_with_a_name_of_its_own_is_never_drawn_in_another_ones_colours(evidence, is_drawn):
    assert bool(linear_painter(torch.randn(1, 24, 8, 8), detect(evidence))) == is_drawn


@pytest.mark.parametrize("row", LATENT_FORMATS, ids=lambda row: row.name)
def test_every_format_has_a_picture_without_any_file_and_it_shows_shapes(row):
    square = torch.zeros(1, 1, 8, 8)
    square[..., 2:6, 2:6] = 1
    samples = square * torch.randn(1, row.latent_channels * row.folded_frames, 1, 1)
    image = linear_painter(samples, Detection(row, "test")).paint(samples, LINEAR)
    assert image.shape == (1, 3, 8, 8)
    assert (image[..., 3, 3] - image[..., 0, 0]).abs().max() > 0.02
