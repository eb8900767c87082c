"""Latents as 8-bit PNG pictures.

Stored the way TAESD's author does it: ``clamp(x / 6 + 0.5)`` as a byte. Four channels are one RGBA picture. More
channels are a grid of RGBA tiles, channels 0-3 in the upper left tile, then row by row (16 channels: 2x2 tiles,
32 channels: 4 columns in 2 rows).

A JSON text chunk says what the pixels mean, with a checksum over itself and the pixels: a picture that was edited,
scaled or saved again by another program would decode to nonsense, so it is refused. It also lists the few values
beyond -3 to 3, whose loss would cost more than all the rounding.

Bytes alone are too coarse for decoders that magnify small differences (taesdxl's picture is 35 dB from the exact
latent's at worst). A private chunk, which other readers pass over, says in two more bits where in its step each value
lies: 12 dB for a quarter of the latent's bytes.
"""

import hashlib
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.latent_note import LatentNote, read_note
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import LatentFormat, native_format
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb

LATENT_MAGNITUDE = 3.0
"""Bytes cover latents of -3 to 3, the range to which the tiny decoders squash them anyway."""
LATENT_SHIFT = 0.5

LAYOUT = "rgba-tiles"
TEXT_KEY = "taesd_ext latent"
FINE_CHUNK = b"fiNE"
"""Lower and upper case as PNG wants it of a chunk that is optional, private, and lost when an editor saves."""
FINE_STEPS = 4
_FINE_SHIFTS = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)

_MOST_PIXELS = 2**26  # of the PNG itself: 32 channels of a 16384x16384 picture at 1/8 are half of it
_MOST_BYTES = 2**28 + 2**20  # those pixels uncompressed, and room for chunks
_MOST_BEYOND = 2**13  # values; keeps the note far below the 1 MB at which PIL refuses a text
_STRONGEST_LEVEL = 2**15  # a latent of 768
_PNG_START = b"\x89PNG\r\n\x1a\n"


def quantise(latent: Tensor) -> Tensor:
    """(..., h, w) latent -> uint8 of the same shape: -3 is 0, 3 is 255."""
    return _levels(latent).round().clamp(0, 255).byte()


def dequantise(stored: Tensor) -> Tensor:
    """uint8, or levels beyond it -> float32 latent; 0 to 255 are -3 to 3."""
    # In place: the largest picture allowed makes a gigabyte of these.
    return stored.to(torch.float32, copy=True).div_(255).sub_(LATENT_SHIFT).mul_(2 * LATENT_MAGNITUDE)


def _levels(latent: Tensor) -> Tensor:
    """Where on the bytes' scale each value lies, not rounded: -3 is 0, 3 is 255."""
    return latent.float().div(2 * LATENT_MAGNITUDE).add(LATENT_SHIFT).mul(255)


def _find_beyond(latent: Tensor) -> list[int]:
    """Places in the flat latent and levels there, in turn, of the values that bytes cannot hold; the strongest few."""
    levels = _levels(latent).round().flatten()
    excess = torch.maximum(-levels, levels - 255)
    places = excess.gt(0).nonzero().flatten()
    if len(places) > _MOST_BEYOND:
        places = places[excess[places].argsort(descending=True, stable=True)[:_MOST_BEYOND]].sort().values
    strongest = levels[places].clamp(-_STRONGEST_LEVEL, _STRONGEST_LEVEL)
    return torch.stack([places, strongest.long()], dim=1).flatten().tolist()


def _restore_beyond(latent: Tensor, beyond: object) -> None:
    """Write the values of an untrusted list into a fresh latent."""
    if beyond == []:
        return
    whole = isinstance(beyond, list) and len(beyond) % 2 == 0 and all(type(number) is int for number in beyond)
    if not whole or not all(0 <= place < latent.numel() for place in beyond[::2]):
        raise ValueError("its list of values beyond the bytes is damaged")
    if not all(abs(level) <= _STRONGEST_LEVEL for level in beyond[1::2]):
        raise ValueError("its list of values beyond the bytes holds absurd ones")
    latent.view(-1)[torch.tensor(beyond[::2])] = dequantise(torch.tensor(beyond[1::2]))


def _fine_of(latent: Tensor) -> bytes:
    """In which quarter of its step each value lies, in the flat latent's order, four to a byte."""
    level = _levels(latent).flatten()
    quarters = (level - level.round() + 0.5).mul(FINE_STEPS).clamp(0, FINE_STEPS - 1).byte()
    packed = functional.pad(quarters, (0, -len(quarters) % FINE_STEPS)).view(-1, FINE_STEPS) << _FINE_SHIFTS
    return packed.sum(dim=1, dtype=torch.uint8).numpy().tobytes()


def _add_fine(latent: Tensor, fine: bytes) -> None:
    """Move each value of a fresh latent to the middle of its quarter step; files of before have none."""
    if not fine:
        return
    if len(fine) != math.ceil(latent.numel() / FINE_STEPS):
        raise ValueError("its finer values are damaged")
    packed = torch.from_numpy(np.frombuffer(fine, np.uint8).copy())
    quarters = (packed[:, None] >> _FINE_SHIFTS & FINE_STEPS - 1).flatten()[: latent.numel()].float()
    quarters.add_(0.5).div_(FINE_STEPS).sub_(0.5)
    latent.view(-1).add_(quarters.mul_(2 * LATENT_MAGNITUDE / 255))


def grid_of(channels: int) -> tuple[int, int]:
    """(rows, columns) of the RGBA tiles that hold so many channels: as near to a square as their number allows."""
    tiles = channels // 4
    if channels % 4 or not tiles:
        raise TaesdError(f"Cannot store {channels} channels as a picture", "four at a time are laid out in tiles")
    rows = next(rows for rows in range(math.isqrt(tiles), 0, -1) if tiles % rows == 0)
    return rows, tiles // rows


def to_pixels(latent: Tensor) -> np.ndarray:
    """(1,C,h,w) latent -> (rows*h, columns*w, 4) bytes."""
    _, channels, height, width = latent.shape
    rows, columns = grid_of(channels)
    tiles = quantise(latent[0].cpu()).reshape(rows, columns, 4, height, width)
    return tiles.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 4).contiguous().numpy()


def from_pixels(pixels: np.ndarray, channels: int) -> Tensor:
    """The inverse of :func:`to_pixels`, as float32."""
    rows, columns = grid_of(channels)
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    tiles = torch.from_numpy(np.array(pixels)).reshape(rows, height, columns, width, 4)
    return dequantise(tiles.permute(0, 2, 4, 1, 3).reshape(1, channels, height, width).contiguous())


def latent_to_png(latent: Tensor, note: LatentNote) -> bytes:
    """A (1,C,h,w) latent as a PNG file with its note."""
    pixels = to_pixels(latent)
    values = {**asdict(note), "layout": LAYOUT, "beyond": _find_beyond(latent.cpu())}
    fine = _fine_of(latent.cpu())
    text = PngImagePlugin.PngInfo()
    text.add_text(TEXT_KEY, json.dumps({**values, "sha256": _checksum(values, pixels, fine)}), zip=True)
    text.add(FINE_CHUNK, fine)
    text.add_text("Comment", "A latent as a picture: decode it with taesd_ext. Editing or resaving makes it useless.")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def png_to_latent(source: Path | str | bytes, family: str | None = None) -> tuple[Tensor, LatentNote]:
    """(1,C,h,w) float32 latent and note from a PNG that :func:`latent_to_png` made.

    One without a note, as TAESD's own example writes it, is read as ``family``'s where that is given. Raises TaesdError
    for any other picture, for an edited one, and for one that claims an absurd size.
    """
    try:
        with _open_png(source) as picture:
            text = picture.info.get(TEXT_KEY)
            if text is None and family:
                return _plain(np.asarray(picture), family)
            if not isinstance(text, str):
                raise ValueError("it carries no note of a latent (TAESD's own pictures need the family to be given)")
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("its note is damaged")
            note = read_note(values)
            if values.get("layout") != LAYOUT:
                raise ValueError(f"its layout {str(values.get('layout'))[:40]!r} is unknown")
            rows, columns = grid_of(note.channels)
            expected = columns * note.latent_shape[3], rows * note.latent_shape[2]
            if picture.size != expected:
                has, wanted = ("x".join(map(str, size)) for size in (picture.size, expected))
                raise ValueError(f"it has {has} pixels where its note says {wanted}")
            fine = b"".join(data for name, data, *_ in picture.private_chunks if name == FINE_CHUNK)
            pixels = np.asarray(picture)
        if values.pop("sha256", None) != _checksum(values, pixels, fine):
            raise ValueError("its pixels or its note were changed after it was written")
        latent = from_pixels(pixels, note.channels)
        _restore_beyond(latent, values.get("beyond"))
        _add_fine(latent, fine)
    except TaesdError:
        raise
    except Exception as error:
        what = f"{'The picture' if isinstance(source, bytes) else source} is not a stored latent"
        why = str(error) if type(error) is ValueError else one_line(error)
        raise TaesdError(what, why, "Use a file that `python -m taesd_ext encode` wrote") from error
    return latent, note


def _plain(pixels: np.ndarray, family: str) -> tuple[Tensor, LatentNote]:
    row = native_format(family)
    if row.latent_channels != 4:
        raise ValueError(f"a picture without a note has 4 channels where {family} has more")
    height, width = (row.spatial_scale_factor * side for side in pixels.shape[:2])
    return from_pixels(pixels, 4), LatentNote(family, row.name, 4, height, width)


def _open_png(source: Path | str | bytes) -> Image.Image:
    """An 8-bit RGBA PNG whose claimed size is sane, not decoded yet."""
    if isinstance(source, bytes):
        data = source
    else:
        with Path(source).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
    if data[:8] != _PNG_START or data[12:16] != b"IHDR" or len(data) < 26:
        raise ValueError("it is not a PNG")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError(f"it claims {width}x{height} pixels")
    if (data[24], data[25]) != (8, 6):  # PIL would silently bring other depths and colours to 8-bit RGBA
        raise ValueError("it is not 8-bit RGBA")
    return Image.open(io.BytesIO(data), formats=("PNG",))


def _checksum(values: dict[str, Any], pixels: np.ndarray, fine: bytes) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    digest.update(fine)
    return digest.hexdigest()


def latent_view(latent: Tensor, latent_format: LatentFormat) -> Image.Image:
    """A (1,C,h,w) latent for people's eyes: the linear RGB preview, then each channel as a grey tile, -3 to 3.

    A format without a linear preview shows its channels only.
    """
    height, width = latent.shape[-2:]
    tiles = []
    if latent_format.rgb in LATENT_RGB:
        rgb = latent_to_rgb(latent.float().cpu(), latent_format.rgb)[0].clamp(0, 1)
        tiles.append(rgb.mul(255).round().byte().permute(1, 2, 0))
    tiles += [grey[..., None].expand(height, width, 3) for grey in quantise(latent[0].cpu())]
    columns = math.ceil(math.sqrt(len(tiles)))
    sheet = torch.full((math.ceil(len(tiles) / columns) * (height + 1) - 1, columns * (width + 1) - 1, 3), 128).byte()
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return Image.fromarray(sheet.numpy())
