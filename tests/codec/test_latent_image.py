"""Latents as pictures: the numbers of TAESD's own way, the way back, and every kind of file that must be refused."""

import io
import json
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from taesd_ext import TaesdError, load_codec
from taesd_ext.codec import latent_image
from taesd_ext.codec.latent_file import latent_bytes, read_latent
from taesd_ext.codec.latent_image import (
    TEXT_KEY,
    dequantise,
    grid_of,
    latent_to_png,
    latent_view,
    png_to_latent,
    quantise,
    to_pixels,
)
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import read_picture
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.models.latent_rgb import LATENT_RGB

STEP = 6 / 255


def latent_of(family: str, size: tuple[int, int] = (40, 72), scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    row = native_format(family)
    factor = row.spatial_scale_factor
    shape = (1, row.latent_channels, -(-size[0] // factor), -(-size[1] // factor))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def png_of(family: str, size: tuple[int, int] = (40, 72), scale: float = 1.0) -> tuple[torch.Tensor, bytes]:
    latent = latent_of(family, size, scale)
    return latent, latent_to_png(latent, note_for(latent, family, native_format(family), size))


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


def test_bytes_are_those_of_taesd():
    latent = torch.tensor([-4.0, -3.0, -1.0, 0.0, 0.7, 3.0, 9.0])
    # The author's example: x.div(6).add(0.5).clamp(0, 1), then a byte; 0.5 * 255 rounds to even.
    expected = [round(min(max(value / 6 + 0.5, 0), 1) * 255) for value in latent.tolist()]
    assert quantise(latent).tolist() == expected == [0, 0, 85, 128, 157, 255, 255]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantise(dequantise(every)), every)


@settings(max_examples=30)
@given(height=st.integers(1, 90), width=st.integers(1, 90), family=st.sampled_from(FAMILIES), seed=st.integers(0, 99))
def test_round_trip_within_an_eighth_of_a_step(height, width, family, seed):
    latent = latent_of(family, (height, width), scale=2.0, seed=seed)
    note = note_for(latent, family, native_format(family), (height, width))
    back, read = png_to_latent(latent_to_png(latent, note))
    assert read == note
    assert (back - latent).abs().max() <= STEP / 8 + 1e-5


def test_a_file_of_before_the_finer_values_is_read():
    latent, data = png_of("taesd", scale=2.0)
    back, _ = png_to_latent(rewritten(data, lambda values: signed(values, pixels_of(data))))
    assert STEP / 8 + 1e-5 < (back - latent).abs().max() <= STEP / 2 + 1e-5


def test_storing_twice_changes_nothing():
    data = png_of("taesd3", scale=2.0)[1]
    back, note = png_to_latent(data)
    assert latent_to_png(back, note) == data


@pytest.mark.parametrize(
    ("channels", "grid"),
    [(4, (1, 1)), (16, (2, 2)), (32, (2, 4)), (48, (3, 4)), (128, (4, 8)), (0, None), (6, None)],
)
def test_grids(channels, grid):
    if grid is None:
        with pytest.raises(TaesdError):
            grid_of(channels)
    else:
        assert grid_of(channels) == grid


def test_layout_of_tiles():
    latent = torch.arange(32).float().view(1, 32, 1, 1).expand(1, 32, 2, 3) / 10 - 1.5
    pixels = to_pixels(latent)
    assert pixels.shape == (2 * 2, 4 * 3, 4)
    stored = quantise(latent)[0, :, 0, 0].tolist()
    for tile in range(8):
        top, left = tile // 4 * 2, tile % 4 * 3
        assert (pixels[top : top + 2, left : left + 3] == stored[4 * tile : 4 * tile + 4]).all()


def test_four_channels_are_taesds_own_picture():
    latent, data = png_of("taesd")
    expected = latent[0].div(6).add(0.5).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
    assert np.array_equal(pixels_of(data), expected.numpy())


def test_many_values_beyond_the_bytes_keep_the_strongest():
    latent = latent_of("taesd", (1024, 1024), scale=30.0)
    data = latent_to_png(latent, note_for(latent, "taesd", native_format("taesd"), (1024, 1024)))
    back, _ = png_to_latent(data)
    strongest = latent.abs().flatten().topk(100).indices
    assert (back - latent).flatten()[strongest].abs().max() <= STEP / 2 + 1e-4


def test_undefined_latents_and_wrong_sizes_are_not_stored():
    latent = latent_of("taesd")
    with pytest.raises(TaesdError):
        note_for(latent, "taesd", native_format("taesd"), (40, 80))
    latent[0, 1, 2, 3] = float("nan")
    with pytest.raises(TaesdError):
        note_for(latent, "taesd", native_format("taesd"), (40, 72))


def changed_pixel(data: bytes) -> bytes:
    def edit(pixels: np.ndarray) -> None:
        pixels[0, 0, 0] ^= 1

    return rewritten(data, edit=edit)


def with_header(data: bytes, width: int, height: int, depth: int = 8, colour: int = 6) -> bytes:
    """The PNG whose header lies."""
    body = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour]) + data[26:29]
    return data[:12] + b"IHDR" + body + zlib.crc32(b"IHDR" + body).to_bytes(4, "big") + data[33:]


def jpeg(_: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 5)).save(buffer, "JPEG")
    return buffer.getvalue()


def plain(data: bytes) -> bytes:
    return rewritten(data, noted=False)


def noting(**values: object):
    return lambda data: rewritten(data, lambda note: note.update(values))


def lacking(name: str):
    return lambda data: rewritten(data, lambda note: note.pop(name))


REFUSED = {
    "empty": (lambda data: b"", "not a PNG"),
    "a JPEG": (jpeg, "not a PNG"),
    "cut off": (lambda data: data[: len(data) // 2], "not a stored latent"),
    "no note": (plain, "no note"),
    "one bit of one pixel changed": (changed_pixel, "changed after"),
    "family changed": (noting(family="taesdxl"), "changed after"),
    "size changed": (noting(width=71), "changed after"),
    "a size that does not fit the pixels": (noting(width=720), "note says"),
    "an absurd size": (noting(width=2**40), "claims an original"),
    "a negative size": (noting(height=-8), "claims an original"),
    "a size that is no number": (noting(height="tall"), "incomplete"),
    "infinite size": (noting(height=float("inf")), "not a stored latent"),
    "unknown format": (noting(format="sd9"), "unknown latent format"),
    "other channels": (noting(channels=16), "channels"),
    "a later version": (noting(version=2), "version 2"),
    "another layout": (noting(layout="rows"), "layout"),
    "a note that lacks a part": (lacking("family"), "incomplete"),
    "no checksum": (lacking("sha256"), "changed after"),
    "a bomb": (lambda data: with_header(data, 2**31 - 1, 2**31 - 1), "claims"),
    "sixteen bits": (lambda data: with_header(data, 9, 5, depth=16), "8-bit RGBA"),
    "a palette": (lambda data: with_header(data, 9, 5, colour=3), "8-bit RGBA"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_foreign_and_edited_pictures_are_refused(kind):
    spoil, reason = REFUSED[kind]
    _, data = png_of("taesd")
    with pytest.raises(TaesdError, match=reason) as caught:
        png_to_latent(spoil(data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "beyond", [None, "x", [1], [0.5, 300], [-1, 300], [10**9, 300], [0, 10**9], [True, 300], {"0": 300}]
)
def test_a_forged_list_of_strong_values_is_refused(beyond):
    _, data = png_of("taesd")

    def forge(values: dict) -> None:
        values["beyond"] = beyond
        signed(values, pixels_of(data))

    with pytest.raises(TaesdError, match="beyond"):
        png_to_latent(rewritten(data, forge))


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 10**6))
def test_damage_is_refused_or_harmless(junk, place):
    latent, data = png_of("taesd")
    spoilt = bytearray(data)
    place %= len(spoilt)
    spoilt[place : place + len(junk)] = junk
    try:
        back, _ = png_to_latent(bytes(spoilt))
    except TaesdError:
        return
    assert (back - latent).abs().max() <= STEP / 2 + 1e-5  # a byte that means nothing, such as the comment's


def test_taesds_own_picture_needs_the_family(tmp_path):
    latent, data = png_of("taesd", (40, 72))
    path = tmp_path / "theirs.png"
    path.write_bytes(plain(data))
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
    latent = latent_of(family, scale=5.0)
    note = note_for(latent, family, native_format(family), (40, 72))
    path = tmp_path / "latent.safetensors"
    path.write_bytes(latent_bytes(".safetensors", latent, note))
    back, read = read_latent(path)
    assert torch.equal(back, latent)
    assert read == note


NOTE = {"family": "taesd", "format": "sd1", "channels": "4", "height": "40", "width": "72", "version": "1"}


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({"height": "999"}, "latent"), ({"channels": "16"}, "latent"), ({"format": "??"}, "latent"),
        ({"version": "9"}, "latent"), ({}, "1.weight"), (None, ""),
    ],
)  # fmt: skip
def test_safetensors_that_contradict_themselves_or_hold_no_latent(changes, tensor, tmp_path):
    path = tmp_path / "latent.safetensors"
    if changes is None:
        path.write_bytes(b"\xff" * 64)
    else:
        safetensors.torch.save_file({tensor: latent_of("taesd")}, path, {**NOTE, **changes})
    with pytest.raises(TaesdError):
        read_latent(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_view_for_people(family):
    row = native_format(family)
    latent = latent_of(family, (64, 64))
    view = latent_view(latent, row)
    height, width = latent.shape[-2:]
    assert view.mode == "RGB"
    assert (view.width + 1) % (width + 1) == 0
    assert (view.width + 1) // (width + 1) * ((view.height + 1) // (height + 1)) >= row.latent_channels
    first = 1 if row.rgb in LATENT_RGB else 0  # the tile of channel 0
    grey = np.asarray(view.crop((first * (width + 1), 0, first * (width + 1) + width, height)))
    assert np.array_equal(grey[..., 0], quantise(latent[0, 0]).numpy())


@pytest.mark.parametrize("family", ["taesd", "taesdxl", "taesd3", "taef1", "taef2"])
def test_costs_little_on_real_weights(family, weights_dir, reference_dir):
    codec = load_codec(family, models_dir=weights_dir)
    image = read_picture(reference_dir / "notebook_input.png")[..., 128:256, 128:256]
    latent = codec.encode(image)
    stored, note = png_to_latent(latent_to_png(latent, note_for(latent, family, codec.format, (128, 128))))
    error = (codec.decode(stored, size=note.size) - codec.decode(latent)).square().mean()
    assert -10 * torch.log10(error) >= 50
