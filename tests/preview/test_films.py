"""Previews of videos."""

from __future__ import annotations

import io

import pytest
import torch
from fake_codec import FakeCodec, session_of
from PIL import Image

from taesd_ext.latent_formats import BY_NAME, Detection, ModelEvidence, detect
from taesd_ext.preview.drawing import LINEAR
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.preview.scene import MOST_FRAMES
from taesd_ext.settings import FIRST_FRAME, PreviewSettings

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")

WAN = Detection(BY_NAME["wan21"], "test")


class EachFrameItsShade(FakeCodec):
    """Costs by the frame."""

    def decode(self, latent, *, detail="full"):
        assert latent.ndim == 4
        before, image = self.clock.now, super().decode(latent, detail=detail)
        self.clock.now += (self.clock.now - before) * (len(latent) - 1)
        return image * 0 + latent[:, :1, :1, :1]


def video(frames: int, batch: int = 1) -> torch.Tensor:
    """Each frame is brighter than the one before."""
    shades = torch.linspace(0, 1, frames).view(1, 1, frames, 1, 1)
    return shades.expand(batch, 16, frames, 8, 8).clone()


def film_of(frame) -> Image.Image:
    return Image.open(io.BytesIO(frame.image.data))


@pytest.mark.parametrize(("frames", "shown"), [(2, 2), (21, 21), (100, MOST_FRAMES)])
@pytest.mark.parametrize("grid", [False, True])
def test_a_video_moves_from_its_first_frame_to_its_last(clock, frames, shown, grid):
    session = session_of(EachFrameItsShade(clock), clock, PreviewSettings(min_time=0, budget=0, max_side=32))
    session.step(1)
    frame = session.poll(video(frames, batch=2), WAN, grid=grid)
    film = film_of(frame)
    assert (film.format, film.n_frames, film.size, frame.full_size) == ("WEBP", shown, (32, 32), (32, 32))
    shades = []
    for place in range(film.n_frames):
        film.seek(place)
        shades.append(film.convert("RGB").getpixel((9, 9))[0])
    assert shades == sorted(shades)
    assert shades[0] < 10
    assert shades[-1] >= 120
    assert frame.image.picture.getpixel((9, 9))[0] == 0

    history = JobHistory()
    history.add_frame(history.begin(), frame)
    assert history.jobs()[0].frames[0].data == frame.image.data, "it moves in the timeline, too"


@pytest.mark.parametrize("settings", [{"film": FIRST_FRAME}, {}])
def test_the_first_frame_where_it_was_chosen_or_is_the_only_one(clock, settings):
    session = session_of(EachFrameItsShade(clock), clock, PreviewSettings(min_time=0, budget=0, **settings))
    session.step(1)
    assert not getattr(film_of(session.poll(video(9 if settings else 1), WAN)), "is_animated", False)


def test_frames_are_dropped_before_the_size_and_the_budget_holds(clock):
    codec = EachFrameItsShade(clock, {"full": 0.5, "1/2": 0.1, "1/4": 0.008, "1/8": 0.002})
    session = session_of(codec, clock, PreviewSettings(min_time=0, budget=3), steps=30)
    counts = {}
    for step in range(1, 31):
        clock.now += 2
        session.step(step)
        frame = session.poll(video(21), WAN)
        counts.setdefault(frame.detail, set()).add(film_of(frame).n_frames)
    assert session.stats.share <= 0.031
    assert session.stats.frames >= 25
    assert max(counts["1/4"]) < 21
    assert min(counts["1/4"]) >= 4


def test_without_a_decoder_the_linear_preview_moves(clock):
    session = session_of(FakeCodec(), clock, PreviewSettings(min_time=0, budget=0))
    session.step(1)
    frame = session.poll(torch.randn(1, 16, 5, 8, 8), detect(ModelEvidence(channels=16)))
    assert (frame.detail, film_of(frame).n_frames, frame.full_size) == (LINEAR, 5, (64, 64))
