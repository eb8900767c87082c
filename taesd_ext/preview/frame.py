"""Image tensor -> rounded uint8 -> PIL -> encoded bytes, each made once however many look."""

import io
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from taesd_ext.codec.picture_file import data_uri

LARGE_SIDE = 256
"""Above this many pixels a frame is JPEG by default; below, PNG costs as little and scales up without blocks."""

# Quality and effort of each format, chosen by time at 512 pixels: jpeg 0.6 ms, webp 5.7 ms, png 4 ms.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 85},
    "webp": {"quality": 80, "method": 0},
    "png": {"compress_level": 1},
}


@dataclass(frozen=True)
class PreviewImage:
    """The bytes that pages get of a preview, and its pixels."""

    wire_format: str
    """"jpeg", "webp" or "png"."""
    data: bytes
    """The encoded picture, or a film as an animated WebP."""
    exact: Image.Image | None = None
    """RGB, as it was before it was encoded; None where that was let go."""

    @property
    def picture(self) -> Image.Image:
        """RGB, at reduced detail smaller than it is to be shown: pages scale it up, which costs nothing.

        Of a film the first frame.
        """
        return self.exact or Image.open(io.BytesIO(self.data)).convert("RGB")

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size

    @property
    def uri(self) -> str:
        return data_uri(self.data, self.wire_format)


@dataclass(frozen=True)
class Frame:
    """One preview and what is known of it."""

    number: int
    """Counts the frames of a job from 1."""
    step: int
    """The sampling step that it shows, counted from 1 over all passes and batches of the job."""
    image: PreviewImage
    full_size: tuple[int, int]
    """(width, height) at which it is to be shown, whatever its detail."""
    detail: str
    """"full", "1/2", "1/4", "1/8", or without a decoder "embedded", "learnt" or "linear"."""
    family: str | None
    milliseconds: float
    """What it cost: decoding and conversion, without what it waited for."""
    steps: int = 0
    """Steps of the job as far as they were known; 0 = unknown."""
    over_budget: bool = False
    """Whether the detail that was chosen would have cost more than the budget allows."""

    def encoded_only(self) -> "Frame":
        """The same in as little memory as can be."""
        return replace(self, image=replace(self.image, exact=None))


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


def film_image(pixels: Tensor, seconds: float, *, max_side: int = 0) -> PreviewImage:
    """(T,H,W,3) pixels -> an animated WebP of so many seconds, whose sides are at most ``max_side``."""
    pictures = [_limited_picture(frame, max_side) for frame in pixels]
    duration = round(1000 * seconds / len(pictures))
    return _encoded(pictures[0], "webp", save_all=True, append_images=pictures[1:], loop=0, duration=duration)


def preview_image(image: Tensor, *, max_side: int = 0, frame_format: str = "auto") -> PreviewImage:
    """(B,3,H,W) image in [0,1] -> one picture (a grid if B > 1) whose sides are at most ``max_side``."""
    picture = _limited_picture(tile(to_pixels(image)), max_side)
    if frame_format == "auto":
        frame_format = "jpeg" if max(picture.size) > LARGE_SIDE else "png"
    return _encoded(picture, frame_format)


def _encoded(picture: Image.Image, wire_format: str, **more: Any) -> PreviewImage:
    buffer = io.BytesIO()
    picture.save(buffer, wire_format, **_SAVE_OPTIONS[wire_format], **more)
    return PreviewImage(wire_format, buffer.getvalue(), picture)


def _limited_picture(pixels: Tensor, max_side: int) -> Image.Image:
    picture = Image.fromarray(pixels.numpy())
    size = limited(picture.size, max_side)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
