"""Films made of a job's previews."""

import io
from itertools import pairwise

import pytest
import torch
from PIL import Image

from taesd_ext.errors import TaesdError
from taesd_ext.preview.animation import AnimationPlan, animate, picked_frames
from taesd_ext.preview.frame import Frame, PreviewImage, preview_image


def frames_of(count: int, size: tuple[int, int] = (96, 72), factor: int = 1) -> list[Frame]:
    shape = (1, 3, size[1] // factor, size[0] // factor)
    shades = (torch.full(shape, place / count) for place in range(1, count + 1))
    return [
        Frame(number, number, preview_image(shade), size, "1/4", None, 1.0)
        for number, shade in enumerate(shades, 1)
    ]


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
@pytest.mark.parametrize(
    ("count", "plan", "least", "most"),
    [(5, {"length": 1.0, "hold": 2.0, "side": 96}, 5, 5), (200, {"length": 2.0, "hold": 0.0, "side": 16}, 46, 60)],
)  # thirty a second; WebP makes one of two that are alike
def test_a_film_has_the_frames_in_order_at_one_size_and_lasts_as_long_as_was_asked(kind, count, plan, least, most):
    pictures, durations = read(animate(frames_of(count), AnimationPlan(kind, **plan)))
    assert least <= len(pictures) <= most
    assert {picture.size for picture in pictures} == {(plan["side"], plan["side"] * 3 // 4)}
    shades = [picture.getpixel((5, 5))[0] for picture in pictures]
    assert shades == sorted(shades)
    assert shades[0] <= 255 // count + 10
    assert shades[-1] > 245
    if plan["hold"]:
        assert durations == [200, 200, 200, 200, 2000]
    else:
        assert sum(durations) == 2000


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        (AnimationPlan("webp", length=120, side=16), 300),
        (AnimationPlan("gif", length=120, side=2048), 47),
        (AnimationPlan("gif", length=0), 2),
    ],
)
def test_of_more_frames_than_can_be_shown_an_even_choice_is_taken(plan, count):
    frames = [Frame(number, number, PreviewImage("png", b""), (64, 48), "1/4", None, 1.0) for number in range(1, 901)]
    picked = picked_frames(frames, plan)
    assert len(picked) == count
    assert (picked[0], picked[-1]) == (frames[0], frames[-1])
    gaps = {after.number - before.number for before, after in pairwise(picked)}
    assert max(gaps) - min(gaps) <= 1
    assert picked_frames(picked, plan) == picked


@pytest.mark.parametrize(
    ("frames", "size"), [([(64, 48)], (64, 48)), ([(32, 32)] * 2 + [(64, 128)] * 2, (32, 64))], ids=["one", "two sizes"]
)
def test_all_frames_get_the_last_ones_size(frames, size):
    pictures, _ = read(animate([frames_of(1, each)[0] for each in frames], AnimationPlan("webp", side=64)))
    assert {picture.size for picture in pictures} == {size}


def test_a_film_of_small_frames_is_not_enlarged():
    pictures, _ = read(animate(frames_of(2, (512, 256), factor=8), AnimationPlan("webp", side=512)))
    assert {picture.size for picture in pictures} == {(64, 32)}


def test_without_frames_there_is_no_film():
    with pytest.raises(TaesdError):
        animate([], AnimationPlan())


@pytest.mark.parametrize(
    "wrong", [{"kind": "mp4"}, {"length": -1}, {"length": 1e9}, {"hold": float("nan")}, {"side": 5}, {"side": 99999}]
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(TaesdError):
        AnimationPlan(**wrong)
