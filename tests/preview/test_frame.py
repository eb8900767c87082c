from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from taesd_ext.preview import frame as frame_module
from taesd_ext.preview.frame import Frame, grid_shape, limited, preview_image, to_pixels


def test_levels_are_rounded_not_cut():
    levels = torch.arange(256) / 255
    image = levels.view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_pixels(image)[0, :, :, 0].flatten(), torch.arange(256, dtype=torch.uint8))
    assert to_pixels(torch.full((1, 3, 1, 1), 0.6 / 255))[0, 0, 0, 0] == 1
    assert to_pixels(torch.full((1, 3, 1, 1), 0.8984375, dtype=torch.bfloat16))[0, 0, 0, 0] == 229


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (4, (2, 2)), (5, (2, 3)), (9, (3, 3))]
)
def test_grid_places_every_picture(count, shape):
    assert grid_shape(count) == shape
    image = torch.stack([torch.full((3, 2, 3), (i + 1) / 255) for i in range(count)])
    pixels = np.asarray(preview_image(image))
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


def count_encodings(monkeypatch) -> list[int]:
    encodings = []
    ordinary = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, *a, **k: (encodings.append(1), ordinary(self, *a, **k))[1])
    return encodings


def test_api_clients_get_what_they_ask_for_encoded_once(monkeypatch):
    image = preview_image(torch.rand(1, 3, 64, 300))
    encodings = count_encodings(monkeypatch)
    for _ in range(5):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", pnginfo=None, quality=80)
        assert Image.open(buffer).format == "PNG"
    assert len(encodings) == 1
    image.save(io.BytesIO(), format="JPEG", exif=b"", quality=80)
    assert len(encodings) == 2


def test_a_frame_is_encoded_once_however_many_save_it(monkeypatch):
    image = preview_image(torch.rand(1, 3, 64, 300))
    encodings = count_encodings(monkeypatch)
    seen: list[bytes] = []

    def poll() -> None:
        buffer = io.BytesIO()
        image.save(buffer, format="png", optimize=False, compress_level=1)
        seen.append(buffer.getvalue())

    threads = [threading.Thread(target=poll) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encodings) == 1
    assert set(seen) == {image.encoded()}
    assert Image.open(io.BytesIO(seen[0])).format == "JPEG"


def test_saving_for_other_purposes_is_ordinary(tmp_path):
    image = preview_image(torch.rand(1, 3, 64, 300))
    image.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").format == "PNG"
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=None)
    assert Image.open(buffer).format == "PNG"
    assert type(image.copy()) is Image.Image
    assert image.convert("RGB").size == image.size


@pytest.mark.parametrize("wanted", ["jpeg", "webp", "png"])
def test_the_format_asked_for_is_used(wanted):
    image = preview_image(torch.rand(1, 3, 16, 16), frame_format=wanted)
    assert Image.open(io.BytesIO(image.encoded())).format == wanted.upper()


def test_auto_is_png_when_small():
    assert preview_image(torch.rand(1, 3, 8, 256)).wire_format == "png"
    assert preview_image(torch.rand(1, 3, 8, 257)).wire_format == "jpeg"


def test_a_small_frame_knows_the_size_to_be_shown_at():
    image = preview_image(torch.rand(1, 3, 8, 8))
    frame = Frame(1, 1, image, (64, 64), "1/8", "taesd", 1.0)
    assert frame.at_full_size().size == (64, 64)
    assert frame.data_uri().startswith("data:image/png;base64,")
    assert frame_module.LARGE_SIDE == 256
