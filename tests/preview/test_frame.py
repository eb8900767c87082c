import copy
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from taesd_ext.preview.frame import Frame, grid_shape, limited, preview_image, to_pixels
from taesd_ext.preview.full_size_image import FullSizeImage


def test_levels_are_rounded_not_cut():
    levels = torch.arange(256) / 255
    image = levels.view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_pixels(image)[0, :, :, 0].flatten(), torch.arange(256, dtype=torch.uint8))
    assert to_pixels(torch.full((1, 3, 1, 1), 0.6 / 255))[0, 0, 0, 0] == 1
    assert to_pixels(torch.full((1, 3, 1, 1), 0.8984375, dtype=torch.bfloat16))[0, 0, 0, 0] == 229


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (5, (2, 3)), (9, (3, 3))])
def test_grid_places_every_picture(count, shape):
    assert grid_shape(count) == shape
    image = torch.stack([torch.full((3, 2, 3), (i + 1) / 255) for i in range(count)])
    pixels = np.asarray(preview_image(image).picture)
    rows, columns = shape
    assert pixels.shape == (rows * 2, columns * 3, 3)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        assert (pixels[row * 2 : row * 2 + 2, column * 3 : column * 3 + 3] == (place + 1 if place < count else 0)).all()


def test_sides_are_limited_in_shape():
    assert limited((512, 256), 0) == (512, 256)
    assert limited((2048, 1024), 1024) == (1024, 512)
    assert limited((4000, 1), 100) == (100, 1)
    assert preview_image(torch.rand(1, 3, 64, 128), max_side=32).size == (32, 16)


@pytest.mark.parametrize(
    ("wanted", "side", "given"),
    [("jpeg", 16, "JPEG"), ("webp", 16, "WEBP"), ("png", 300, "PNG"), ("auto", 256, "PNG"), ("auto", 257, "JPEG")],
)
def test_a_preview_is_encoded_in_the_format_asked_for(wanted, side, given):
    image = preview_image(torch.rand(1, 3, 8, side), frame_format=wanted)
    assert Image.open(io.BytesIO(image.data)).format == image.wire_format.upper() == given


def frame_of(side: int, full_side: int) -> Frame:
    return Frame(1, 1, preview_image(torch.rand(1, 3, side, side)), (full_side, full_side), "1/4", "taesd", 1.0)


@pytest.fixture
def encodings(monkeypatch) -> list[int]:
    """One entry for each time that Pillow encodes something."""
    made = []
    ordinary = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, *a, **k: (made.append(1), ordinary(self, *a, **k))[1])
    return made


@pytest.mark.parametrize("side", [80, 320])
@pytest.mark.parametrize(
    ("asked", "given", "options"),
    [
        ("png", "PNG", {"optimize": False, "compress_level": 1}),
        ("PNG", "PNG", {"pnginfo": None, "quality": 80}),
        ("jpeg", "JPEG", {}),
        ("JPEG", "JPEG", {"exif": b"", "quality": 80}),
        ("webp", "WEBP", {}),
    ],
)
def test_readers_of_the_state_get_the_full_size_in_their_format_encoded_once(encodings, side, asked, given, options):
    image = FullSizeImage(frame_of(side, 320))
    encodings.clear()

    def save(_) -> tuple:
        buffer = io.BytesIO()
        image.save(buffer, format=asked, **options)
        saved = Image.open(buffer)
        return saved.format, saved.size

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(save, range(8))) == {(given, (320, 320))}
    assert len(encodings) <= 1


@pytest.mark.parametrize("image", ["image", "image.convert('RGB')"], ids=["A1111", "Forge Neo"])
def test_a_page_gets_the_frames_own_bytes(encodings, image):
    frame = frame_of(80, 320)
    poller = {"__name__": "the.host", "buffer": io.BytesIO(), "image": FullSizeImage(frame, {"the.host"})}
    encodings.clear()
    exec(f"{image}.save(buffer, format='png', optimize=False, compress_level=1)", poller)
    assert poller["buffer"].getvalue() == frame.image.data
    assert not encodings


def test_it_is_scaled_up_only_when_the_pixels_are_needed(monkeypatch):
    resized = []
    ordinary = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *a, **k: (resized.append(1), ordinary(self, *a, **k))[1])
    frame = frame_of(8, 64)
    image = FullSizeImage(frame)
    assert (image.size, image.mode, resized) == ((64, 64), "RGB", [])
    expected = frame.image.picture.resize((64, 64), Image.Resampling.BILINEAR).tobytes()
    resized.clear()
    assert image.tobytes() == image.copy().tobytes() == np.asarray(image).tobytes() == expected
    assert len(resized) == 1
    assert frame.image.picture.size == (8, 8)


@pytest.mark.parametrize(
    "derive",
    [lambda i: i.convert("L"), lambda i: i.convert("RGB"), lambda i: i.crop((0, 0, 64, 64)), copy.copy, copy.deepcopy],
)
def test_what_is_made_of_it_is_an_ordinary_picture(derive, tmp_path):
    made = derive(FullSizeImage(frame_of(8, 64)))
    assert made.size == (64, 64)
    made.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").format == "PNG"
