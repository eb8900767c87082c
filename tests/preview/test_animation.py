"""Films made of a job's previews."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
import torch
from PIL import Image

from taesd_ext.errors import TaesdError
from taesd_ext.preview.animation import AnimationPlan, animate, picked_frames
from taesd_ext.preview.frame import preview_image
from taesd_ext.preview.recorded import RecordedFrame


def frames_of(count: int, size: tuple[int, int] = (64, 48)) -> list[RecordedFrame]:
    frames = []
    for index in range(count):
        image = torch.full((1, 3, size[1] // 4, size[0] // 4), (index + 1) / count)
        frames.append(RecordedFrame(index + 1, index + 1, preview_image(image).data, "png", size, "1/4", 1.0))
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


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_long_jobs_film_is_no_longer_than_was_asked(kind):
    pictures, durations = read(animate(frames_of(200), AnimationPlan(kind, length=2.0, hold=0.0, side=16)))

    assert 45 < len(pictures) <= 60  # thirty a second; WebP makes one of two that are alike
    assert sum(durations) == 2000
    assert pictures[0].getpixel((5, 5))[0] < 10
    assert pictures[-1].getpixel((5, 5))[0] > 245


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        (AnimationPlan("webp", length=120, side=16), 300),
        (AnimationPlan("gif", length=120, side=2048), 47),
        (AnimationPlan("gif", length=0), 2),
    ],
)
def test_of_more_frames_than_can_be_shown_an_even_choice_is_taken(plan, count):
    frames = frames_of(900)
    picked = picked_frames(frames, plan)

    assert len(picked) == count
    assert (picked[0], picked[-1]) == (frames[0], frames[-1])
    gaps = {after.number - before.number for before, after in pairwise(picked)}
    assert max(gaps) - min(gaps) <= 1
    assert picked_frames(picked, plan) == picked


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
    "wrong", [{"kind": "mp4"}, {"length": -1}, {"length": 1e9}, {"hold": float("nan")}, {"side": 5}, {"side": 99999}]
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(TaesdError):
        AnimationPlan(**wrong)
