"""Previews of videos."""

import io
import threading

import pytest
import torch
from fake_codec import FakeCodec, session_of, settings
from PIL import Image

from taesd_ext.codec.codec import Codec
from taesd_ext.latent_formats import BY_NAME, Detection
from taesd_ext.models.tiny_video import VideoDecoder
from taesd_ext.preview.frame import film_image
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.preview.scene import MOST_FRAMES, between_key_frames
from taesd_ext.settings import FIRST_FRAME

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")

WAN = Detection(BY_NAME["wan21"], "test")


class EachFrameItsShade(FakeCodec):
    """Costs by the frame."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.counts: list[tuple[str, int]] = []

    def decode(self, latent, *, detail="full"):
        assert latent.ndim == 4
        self.counts.append((detail, len(latent)))
        before, image = self.clock.now, super().decode(latent, detail=detail)
        self.clock.now += (self.clock.now - before) * (len(latent) - 1)
        return image * 0 + latent[:, :1, :1, :1]


class TimeLayers(EachFrameItsShade):
    """Four frames of one."""

    draws_films = True

    def film_length(self, latents):
        return 4 * latents - 3

    def decode_film(self, latents, *, detail="full"):
        images = self.decode(latents, detail=detail)
        self.decoded[-1] += " film"
        shades = torch.linspace(0, 1, self.film_length(len(latents)))  # frames that are alike are stored once
        return shades.view(-1, 1, 1, 1).expand(-1, *images.shape[1:])


def video(frames: int, batch: int = 1) -> torch.Tensor:
    """Each frame is brighter than the one before."""
    shades = torch.linspace(0, 1, frames).view(1, 1, frames, 1, 1)
    return shades.expand(batch, 16, frames, 8, 8).clone()


def shown(session, step: int, latent, detection=WAN, **options):
    """The frame that a poll brings about: a film is encoded beside it."""
    session.step(step)
    session.poll(latent, detection, **options)
    if session._film.is_alive():
        session._film.join()
    return session.frame


def film_of(frame) -> Image.Image:
    return Image.open(io.BytesIO(frame.image.data))


@pytest.mark.parametrize(("frames", "count", "grid"), [(2, 2, False), (21, 21, True), (100, MOST_FRAMES, False)])
def test_a_video_moves_from_its_first_frame_to_its_last(clock, frames, count, grid):
    session = session_of(EachFrameItsShade(clock), clock, settings(max_side=32))
    frame = shown(session, 1, video(frames, batch=2), grid=grid)
    film = film_of(frame)
    assert (film.format, film.n_frames, film.size, frame.full_size) == ("WEBP", count, (32, 32), (32, 32))
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
    assert history.jobs()[0].frames[0].image.data == frame.image.data, "it moves in the timeline, too"


@pytest.mark.parametrize(("chosen", "frames"), [({"film": FIRST_FRAME}, 9), ({}, 1)])
def test_the_first_frame_where_it_was_chosen_or_is_the_only_one(clock, chosen, frames):
    session = session_of(EachFrameItsShade(clock), clock, settings(**chosen))
    assert not getattr(film_of(shown(session, 1, video(frames))), "is_animated", False)


def test_the_decoder_draws_what_the_budget_allows_and_all_frames_are_shown(clock):
    codec = EachFrameItsShade(clock, {"full": 0.5, "1/2": 0.1, "1/4": 0.008, "1/8": 0.002})
    session = session_of(codec, clock, settings(budget=3, detail="Auto"), steps=30)
    for step in range(1, 31):
        clock.now += 2
        film = film_of(shown(session, step, video(21)))
        assert step == 1 or film.n_frames == 21
    assert session.stats.share <= 0.031
    assert session.stats.frames >= 25
    drawn = [count for detail, count in codec.counts if detail == "1/4"]
    assert 4 <= min(drawn) <= max(drawn) < 21


def test_a_slow_first_preview_of_a_video_is_not_the_jobs_last(clock):
    class SlowAtFirst(EachFrameItsShade):
        def decode(self, latent, *, detail="full"):
            self.clock.now += 0 if self.counts else 0.3
            return super().decode(latent, detail=detail)

    session = session_of(SlowAtFirst(clock, 0.01), clock, settings(budget=3, detail="Auto"), steps=24)
    for step in range(1, 25):
        clock.now += 1.25
        shown(session, step, video(9))
    assert session.stats.share <= 0.031
    assert session.stats.frames >= 5


def test_frames_between_those_of_the_decoder_are_drawn_as_it_would():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(12, 16, 3, 3, generator=generator) * 0.03
    latents = torch.randn(9, 16, 12, 14, generator=generator)

    def decode(part):
        return torch.pixel_shuffle(torch.nn.functional.conv2d(part, kernel, padding=1) + 0.5, 2).clamp(0, 1)

    places = [0, 2, 4, 6]
    wanted, given = decode(latents), latents.clone()
    film = between_key_frames(latents, places, wanted[places])
    assert torch.equal(latents, given)
    assert torch.allclose(film[places], wanted[places], atol=1e-5)
    assert (film - wanted).abs().mean() < 0.1 * (wanted[[1, 3, 5, 7]] - wanted[[0, 2, 4, 6]]).abs().mean()


@pytest.mark.parametrize(("frames", "count"), [(5, 17), (12, 45), (13, 13)])
def test_time_layers_draw_the_whole_film_or_none_of_it(clock, frames, count):
    codec = TimeLayers(clock)
    assert film_of(shown(session_of(codec, clock, settings(max_side=32)), 1, video(frames))).n_frames == count
    assert codec.decoded[-1].endswith("film") == (count > frames)


def test_time_layers_wait_until_the_budget_has_room_for_the_whole_film(clock):
    codec = TimeLayers(clock, {"full": 0.5, "1/2": 0.1, "1/4": 0.02, "1/8": 0.004})
    session = session_of(codec, clock, settings(budget=3, detail="Auto"), steps=30)
    for step in range(1, 31):
        clock.now += 2
        shown(session, step, video(3))
    assert not codec.decoded[0].endswith("film")
    assert any(detail.endswith("film") for detail in codec.decoded)
    assert session.stats.share <= 0.035


def test_a_film_is_encoded_beside_the_poll_and_what_comes_meanwhile_is_dropped(clock, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow_film(*args, **kwargs):
        begun.set()
        assert go_on.wait(120)
        return film_image(*args, **kwargs)

    monkeypatch.setattr("taesd_ext.preview.ladder.film_image", slow_film)
    codec = EachFrameItsShade(clock)
    session = session_of(codec, clock, settings(max_side=32))
    for step in range(1, 6):
        session.step(step)
        assert session.poll(video(5), WAN) is None
        assert begun.wait(120)
    assert len(codec.decoded) == 1
    go_on.set()
    session._film.join()
    assert (session.frame.number, session.frame.step) == (1, 1)
    assert (shown(session, 6, video(5)).number, session.frame.step) == (2, 6)


def test_a_film_of_a_job_that_was_called_off_is_not_shown(clock, monkeypatch):
    def overtaken(*args, **kwargs):
        session.cancel()
        return film_image(*args, **kwargs)

    monkeypatch.setattr("taesd_ext.preview.ladder.film_image", overtaken)
    session = session_of(EachFrameItsShade(clock), clock, settings(max_side=32))
    assert shown(session, 1, video(5)) is None


def test_of_a_result_with_alpha_the_colours_are_shown(clock):
    class WithAlpha(FakeCodec):
        def decode(self, latent, *, detail="full"):
            image = super().decode(latent, detail=detail)
            return torch.cat([image, torch.zeros_like(image[:, :1])], 1)

    session = session_of(WithAlpha(), clock)
    assert shown(session, 1, video(1)).image.picture.getpixel((9, 9)) == (128, 128, 128)
    assert session.last_error is None


def test_the_decoders_time_layers_make_the_whole_film_at_each_detail():
    torch.manual_seed(0)
    codec = Codec("taew2_1", BY_NAME["wan21"], decoder=VideoDecoder(16, widths=(8, 8, 8, 8)))
    latents = torch.randn(3, 16, 4, 6)
    wanted = codec.decoder.decode_frames(latents.movedim(0, 1)[None])[0].movedim(1, 0).clamp(0, 1)
    assert torch.allclose(codec.decode_film(latents), wanted, atol=1e-5)
    for detail in codec.details:
        images = codec.decode_film(latents, detail=detail)
        scale = {"full": 1, "1/2": 2, "1/4": 4, "1/8": 8}[detail]
        assert images.shape == (9, 3, 32 // scale, 48 // scale)
