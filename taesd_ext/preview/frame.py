"""Image tensor -> rounded uint8 -> PIL -> encoded bytes, each made once however many look."""

from __future__ import annotations

import base64
import io
import math
import threading
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

LARGE_SIDE = 256
"""Above this many pixels a frame is JPEG by default; below, PNG costs as little and scales up without blocks."""

# Quality and effort of each format, chosen by time at 512 pixels: jpeg 0.6 ms, webp 5.7 ms, png 4 ms.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 85},
    "webp": {"quality": 80, "method": 0},
    "png": {"compress_level": 1},
}

_WIRE_OPTIONS = frozenset({"optimize", "compress_level"})
"""What hosts pass to ``save`` when they encode a live preview for the page."""


class PreviewImage(Image.Image):
    """A PIL image that is encoded once.

    Hosts call ``save`` on the current preview for each client that polls. Saved to memory as they do it, it hands
    out the same bytes each time, in the frame's own format: the page's browser goes by the content, not by the name.
    Any other ``save`` is the ordinary one, done once for each format and options when it goes to memory.
    """

    _wire_format: str
    _encodings: dict[tuple, bytes]
    _encoding_lock: threading.Lock

    @classmethod
    def wrap(cls, image: Image.Image, wire_format: str) -> PreviewImage:
        """Turn a fresh image into a preview image, in place."""
        image.__class__ = cls  # Image has no public way to build a subclass from pixels
        image._wire_format = wire_format
        image._encodings = {}
        image._encoding_lock = threading.Lock()
        return image

    @property
    def wire_format(self) -> str:
        return self._wire_format

    def encoded(self) -> bytes:
        """The frame as it is sent to pages."""
        return self._encoded_as(self._wire_format, _SAVE_OPTIONS[self._wire_format])

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        if not (isinstance(fp, io.BytesIO) and format and all(map(_is_plain, params.values()))):
            super().save(fp, format=format, **params)
        elif format in _SAVE_OPTIONS and _WIRE_OPTIONS.issuperset(params):
            fp.write(self.encoded())
        else:
            fp.write(self._encoded_as(format, params))

    def _encoded_as(self, format: str, params: dict[str, Any]) -> bytes:
        key = (format, *sorted(params.items()))
        with self._encoding_lock:
            if key not in self._encodings:
                buffer = io.BytesIO()
                super().save(buffer, format=format, **params)
                self._encodings[key] = buffer.getvalue()
            return self._encodings[key]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, bytes))


@dataclass(frozen=True)
class Frame:
    """One preview and what is known of it."""

    number: int
    """Counts the frames of a job from 1."""
    step: int
    """The sampling step (from 1) that it shows."""
    image: PreviewImage
    """As decoded: smaller than ``full_size`` at reduced detail. Pages scale it up, which costs nothing here."""
    full_size: tuple[int, int]
    """(width, height) at which it is to be shown, whatever its detail."""
    detail: str
    """"full", "1/2", "1/4", "1/8", or "linear" for the preview without a decoder."""
    family: str | None
    milliseconds: float
    """What it cost: decoding and conversion, without the encoding."""

    def data_uri(self) -> str:
        """The frame for an ``<img src>``."""
        data = base64.b64encode(self.image.encoded()).decode("ascii")
        return f"data:image/{self.image.wire_format};base64,{data}"

    def at_full_size(self) -> Image.Image:
        """A picture of ``full_size``, for those who cannot scale it themselves."""
        if self.image.size == self.full_size:
            return self.image
        return self.image.resize(self.full_size, Image.Resampling.BILINEAR)


def to_pixels(image: Tensor) -> Tensor:
    """(B,3,H,W) image in [0,1] -> (B,H,W,3) uint8 on the CPU, rounded, made where the image is."""
    levels = image.float().mul(255).add_(0.5).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu()


def grid_shape(count: int) -> tuple[int, int]:
    """(rows, columns) for so many pictures, as hosts arrange the finished ones."""
    rows = max(1, round(math.sqrt(count)))
    return rows, math.ceil(count / rows)


def tile(pixels: Tensor) -> Tensor:
    """(B,H,W,3) pixels -> (rows*H, columns*W, 3), left to right and down, empty places black."""
    count, height, width, channels = pixels.shape
    rows, columns = grid_shape(count)
    if rows * columns > count:
        pixels = torch.cat([pixels, pixels.new_zeros(rows * columns - count, height, width, channels)])
    grid = pixels.view(rows, columns, height, width, channels).permute(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)


def limited(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(width, height) within ``max_side`` (0 = no limit), in the same shape."""
    longest = max(size)
    if not max_side or longest <= max_side:
        return size
    return max(1, round(size[0] * max_side / longest)), max(1, round(size[1] * max_side / longest))


def wire_format(frame_format: str, size: tuple[int, int]) -> str:
    """The format that "auto" means for a frame of this size."""
    if frame_format != "auto":
        return frame_format
    return "jpeg" if max(size) > LARGE_SIDE else "png"


def preview_image(image: Tensor, *, max_side: int = 0, frame_format: str = "auto") -> PreviewImage:
    """(B,3,H,W) image in [0,1] -> one picture (a grid if B > 1) whose sides are at most ``max_side``."""
    pixels = tile(to_pixels(image)).numpy()
    picture = Image.fromarray(pixels)
    size = limited(picture.size, max_side)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return PreviewImage.wrap(picture, wire_format(frame_format, size))
