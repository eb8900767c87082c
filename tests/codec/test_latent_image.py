"""Latents as pictures: the numbers of TAESD's own way, the way back, and every kind of file that must be refused."""

import io
import json
import zlib
from dataclasses import asdict

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from taesd_ext import TaesdError
from taesd_ext.codec import latent_image
from taesd_ext.codec.latent_file import latent_bytes, read_latent
from taesd_ext.codec.latent_image import TEXT_KEY, latent_to_png, latent_view, png_to_latent, quantise
from taesd_ext.codec.latent_note import LatentNote, note_for
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.models.latent_rgb import LATENT_RGB

STEP = 6 / 255


def latent_of(family="taesd", size=(40, 72), scale=1.0, seed=0) -> tuple[torch.Tensor, LatentNote]:
    row = native_format(family)
    factor = row.spatial_scale_factor
    shape = (1, row.latent_channels, -(-size[0] // factor), -(-size[1] // factor))
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return latent, note_for(latent, family, row, size)


def png_of(scale: float = 1.0, size=(40, 72)) -> tuple[torch.Tensor, bytes]:
    latent, note = latent_of(scale=scale, size=size)
    return latent, latent_to_png(latent, note)


def rewritten(data: bytes, change=lambda values: None, edit=lambda pixels: None, *, noted: bool = True) -> bytes:
    """The PNG saved again, with its note and its pixels changed in place."""
    with Image.open(io.BytesIO(data)) as picture:
        values, pixels = json.loads(picture.info[TEXT_KEY]), np.array(picture)
    change(values)
    edit(pixels)
    text = PngImagePlugin.PngInfo()
    if noted:
        text.add_text(TEXT_KEY, json.dumps(values))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture)


def signed(values: dict, pixels: np.ndarray) -> None:
    """Give a forged note its right checksum, as an attacker would."""
    values.pop("sha256", None)
    values["sha256"] = latent_image._checksum(values, pixels, b"")


@settings(max_examples=20)
@given(height=st.integers(1, 90), width=st.integers(1, 90), family=st.sampled_from(FAMILIES), seed=st.integers(0, 99))
def test_round_trip_within_an_eighth_of_a_step(height, width, family, seed):
    latent, note = latent_of(family, (height, width), scale=2.0, seed=seed)
    data = latent_to_png(latent, note)
    back, read = png_to_latent(data)
    assert read == note
    assert (back - latent).abs().max() <= STEP / 8 + 1e-5
    assert latent_to_png(back, note) == data, "storing twice changes nothing"


def test_a_file_of_before_the_finer_values_is_read():
    latent, data = png_of(scale=2.0)
    back, _ = png_to_latent(rewritten(data, lambda values: signed(values, pixels_of(data))))
    assert STEP / 8 + 1e-5 < (back - latent).abs().max() <= STEP / 2 + 1e-5


@pytest.mark.parametrize(
    ("family", "grid"),
    [("taesd", (1, 1)), ("taesd3", (2, 2)), ("taef2", (2, 4)), ("taew2_2", (3, 4)), ("taeltx2_3", (4, 8))],
)
def test_bytes_are_those_of_taesd_and_every_tile_holds_the_next_four_channels(family, grid):
    latent, note = latent_of(family, (64, 96))
    pixels = pixels_of(latent_to_png(latent, note))
    # The author's example: x.div(6).add(0.5).clamp(0, 1), then a byte.
    expected = latent[0].div(6).add(0.5).clamp(0, 1).mul(255).round().byte().numpy()
    rows, columns = grid
    height, width = latent.shape[-2:]
    assert pixels.shape == (rows * height, columns * width, 4)
    for tile in range(rows * columns):
        top, left = tile // columns * height, tile % columns * width
        found = pixels[top : top + height, left : left + width].transpose(2, 0, 1)
        assert np.array_equal(found, expected[4 * tile : 4 * tile + 4])


def test_many_values_beyond_the_bytes_keep_the_strongest():
    latent, data = png_of(30.0, (1024, 1024))
    back, _ = png_to_latent(data)
    strongest = latent.abs().flatten().topk(100).indices
    assert (back - latent).flatten()[strongest].abs().max() <= STEP / 2 + 1e-4


def test_undefined_latents_and_wrong_sizes_are_not_stored():
    latent = latent_of()[0]
    for spoil, width in ((0.0, 80), (float("nan"), 72)):
        latent[0, 1, 2, 3] = spoil
        with pytest.raises(TaesdError):
            note_for(latent, "taesd", native_format("taesd"), (40, width))


def changed_pixel(data: bytes) -> bytes:
    return rewritten(data, edit=lambda pixels: pixels.__setitem__((0, 0, 0), pixels[0, 0, 0] ^ 1))


def with_header(data: bytes, width: int, height: int, depth: int = 8, colour: int = 6) -> bytes:
    """The PNG whose header lies."""
    body = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour]) + data[26:29]
    return data[:12] + b"IHDR" + body + zlib.crc32(b"IHDR" + body).to_bytes(4, "big") + data[33:]


def jpeg(_: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 5)).save(buffer, "JPEG")
    return buffer.getvalue()


def noting(**values: object):
    return lambda data: rewritten(data, lambda note: note.update(values))


def lacking(name: str):
    return lambda data: rewritten(data, lambda note: note.pop(name))


REFUSED = {
    "empty": lambda data: b"",
    "a JPEG": jpeg,
    "cut off": lambda data: data[: len(data) // 2],
    "no note": lambda data: rewritten(data, noted=False),
    "one bit of one pixel changed": changed_pixel,
    "family changed": noting(family="taesdxl"),
    "size changed": noting(width=71),
    "a size that does not fit the pixels": noting(width=720),
    "an absurd size": noting(width=2**40),
    "a negative size": noting(height=-8),
    "a size that is no number": noting(height="tall"),
    "infinite size": noting(height=float("inf")),
    "unknown format": noting(format="sd9"),
    "other channels": noting(channels=16),
    "a later version": noting(version=2),
    "another layout": noting(layout="rows"),
    "a note that lacks a part": lacking("family"),
    "no checksum": lacking("sha256"),
    "a bomb": lambda data: with_header(data, 2**31 - 1, 2**31 - 1),
    "sixteen bits": lambda data: with_header(data, 9, 5, depth=16),
    "a palette": lambda data: with_header(data, 9, 5, colour=3),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_foreign_and_edited_pictures_are_refused(kind):
    with pytest.raises(TaesdError) as caught:
        png_to_latent(REFUSED[kind](png_of()[1]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "beyond", [None, "x", [1], [0.5, 300], [-1, 300], [10**9, 300], [0, 10**9], [True, 300], {"0": 300}]
)
def test_a_forged_list_of_strong_values_is_refused(beyond):
    _, data = png_of()

    def forge(values: dict) -> None:
        values["beyond"] = beyond
        signed(values, pixels_of(data))

    with pytest.raises(TaesdError, match="beyond"):
        png_to_latent(rewritten(data, forge))


def test_taesds_own_picture_needs_the_family(tmp_path):
    latent, data = png_of()
    path = tmp_path / "theirs.png"
    path.write_bytes(rewritten(data, noted=False))
    with pytest.raises(TaesdError, match="no note"):
        read_latent(path)
    back, note = read_latent(path, family="taesd")
    assert note.size == (40, 72)
    assert (back - latent.clamp(-3, 3)).abs().max() <= STEP / 2 + 1e-5
    with pytest.raises(TaesdError):
        read_latent(path, family="taesd3")
    path.write_bytes(changed_pixel(data))
    with pytest.raises(TaesdError):  # a given family does not excuse an edited file
        read_latent(path, family="taesd")


@pytest.mark.parametrize("family", FAMILIES)
def test_safetensors_are_exact(family, tmp_path):
    latent, note = latent_of(family, scale=5.0)
    path = tmp_path / "latent.safetensors"
    path.write_bytes(latent_bytes(".safetensors", latent, note))
    back, read = read_latent(path)
    assert torch.equal(back, latent)
    assert read == note


@pytest.mark.parametrize(
    "changes", [{"height": "999"}, {"channels": "16"}, {"format": "??"}, {"version": "9"}, {"tensor": "1.weight"}, None]
)
def test_safetensors_that_contradict_themselves_or_hold_no_latent(changes, tmp_path):
    path = tmp_path / "latent.safetensors"
    path.write_bytes(b"\xff" * 64)
    if changes:
        latent, note = latent_of()
        noted = {name: str(value) for name, value in asdict(note).items()} | changes
        safetensors.torch.save_file({noted.pop("tensor", "latent"): latent}, path, noted)
    with pytest.raises(TaesdError):
        read_latent(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_view_for_people(family):
    row = native_format(family)
    latent, _ = latent_of(family, (64, 64))
    view = latent_view(latent, row)
    height, width = latent.shape[-2:]
    assert view.mode == "RGB"
    assert (view.width + 1) % (width + 1) == 0
    assert (view.width + 1) // (width + 1) * ((view.height + 1) // (height + 1)) >= row.latent_channels
    first = 1 if row.rgb in LATENT_RGB else 0  # the tile of channel 0
    grey = np.asarray(view.crop((first * (width + 1), 0, first * (width + 1) + width, height)))
    assert np.array_equal(grey[..., 0], quantise(latent[0, 0]).numpy())
