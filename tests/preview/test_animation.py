"""Films made of a job's previews."""

from __future__ import annotations

import io
import shutil

import pytest
import torch
from PIL import Image

from taesd_ext.errors import TaesdError
from taesd_ext.preview import animation
from taesd_ext.preview.animation import AnimationPlan, animate
from taesd_ext.preview.frame import preview_image
from taesd_ext.preview.recorder import RecordedFrame


def frames_of(count: int, size: tuple[int, int] = (64, 48)) -> list[RecordedFrame]:
    frames = []
    for index in range(count):
        image = torch.full((1, 3, size[1] // 4, size[0] // 4), (index + 1) / count)
        frames.append(RecordedFrame(index + 1, index + 1, preview_image(image).encoded(), "png", size, "1/4", 1.0))
    return frames


def read(data: bytes) -> tuple[list[Image.Image], list[int]]:
    film = Image.open(io.BytesIO(data))
    pictures, durations = [], []
    for index in range(film.n_frames):
        film.seek(index)
        film.load()
        durations.append(film.info["duration"])
        pictures.append(film.convert("RGB"))
    return pictures, durations


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_film_has_the_frames_in_order_at_one_size(kind):
    pictures, durations = read(animate(frames_of(5), AnimationPlan(kind, length=1.0, hold=2.0, side=96)))

    assert [picture.size for picture in pictures] == [(96, 72)] * 5
    shades = [picture.getpixel((40, 40))[0] for picture in pictures]
    assert shades == sorted(shades)
    assert shades[-1] > 250
    assert durations == [200, 200, 200, 200, 2000]


def test_one_frame_is_a_film_too():
    assert Image.open(io.BytesIO(animate(frames_of(1), AnimationPlan("webp")))).size == (512, 384)


def test_frames_of_two_sizes_get_the_last_ones():
    frames = [*frames_of(2, (32, 32)), *frames_of(2, (64, 128))]
    pictures, _ = read(animate(frames, AnimationPlan("webp", side=64)))

    assert {picture.size for picture in pictures} == {(32, 64)}


def test_without_frames_there_is_no_film():
    with pytest.raises(TaesdError, match="no preview of this job"):
        animate([], AnimationPlan())


@pytest.mark.parametrize(
    "wrong", [{"kind": "avi"}, {"length": -1}, {"length": 1e9}, {"hold": float("nan")}, {"side": 5}, {"side": 99999}]
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(TaesdError):
        AnimationPlan(**wrong)


def test_mp4_without_a_writer_says_what_to_install(monkeypatch):
    monkeypatch.setattr(animation, "find_spec", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(TaesdError, match="pip install av"):
        animate(frames_of(3), AnimationPlan("mp4"))


def test_mp4_is_a_film_of_the_asked_length():
    av = pytest.importorskip("av", reason="needs PyAV to read the film back")
    data = animate(frames_of(9, (50, 35)), AnimationPlan("mp4", length=1.0, hold=1.0, side=101))

    with av.open(io.BytesIO(data)) as film:
        stream = film.streams.video[0]
        shown = [frame.to_image() for frame in film.decode(stream)]
        assert stream.width == 100
        assert stream.height % 2 == 0
        assert len(shown) / float(stream.average_rate) == pytest.approx(2.0, abs=0.15)
    assert shown[0].getpixel((20, 20))[0] < 60
    assert shown[-1].getpixel((20, 20))[0] > 235
