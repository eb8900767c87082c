"""One picture through one codec and back: what is left of it, and what it cost. A row of the comparison."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.latent_image import latent_to_png, png_to_latent
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.metrics import psnr, ssim
from taesd_ext.commands.measuring import PeakMemory, timed
from taesd_ext.errors import one_line

_LONG = 5.0
"""Seconds after which a first run is not repeated to be timed warm."""


@dataclass(frozen=True)
class RoundTrip:
    """Where ``error`` says something, nothing else is known."""

    codec: str
    format: str
    """Row of latent_formats.py."""
    dtype: str = ""
    device: str = ""
    image: Tensor | None = None
    """(1,3,H,W) in [0,1]: what came back."""
    latent: Tensor | None = None
    """(1,C,h,w)"""
    psnr: float = math.nan
    """dB, of what came back against the original."""
    ssim: float = math.nan
    psnr_8bit: float = math.nan
    """dB of the picture by way of an 8-bit PNG against that of the exact latent."""
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan
    peak_bytes: int | None = None
    """Beyond the weights and the picture; None where the system does not tell."""
    latent_png_bytes: int = 0
    error: str = ""

    @property
    def compression(self) -> float:
        """Raw picture, 3 bytes a pixel, over latent PNG."""
        return self.image.numel() / self.latent_png_bytes if self.image is not None else math.nan

    def numbers(self) -> dict[str, Any]:
        """Everything but the tensors, as JSON knows it: what is infinite or unknown is null."""
        values = {**vars(self), "compression": self.compression}
        del values["image"], values["latent"]
        values["latent_shape"] = list(self.latent.shape) if self.latent is not None else None
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


def measure(codec: Codec, image: Tensor, before: Iterable[RoundTrip] = ()) -> RoundTrip:
    """A (1,3,H,W) image in [0,1] through a codec and back. Never raises: its row then holds the error's line.

    A decoder alone draws the latent of the best row ``before`` it that it can read, and its row says whose.
    Time is the better one of two runs, of which the first warms up the libraries, or of a single one that took long.
    Memory is the larger peak of encode and decode.
    """
    title = codec.title
    try:
        codec.begin_job()
        size = tuple(image.shape[-2:])
        readable = [row for row in before if row.format == codec.format.name and row.latent is not None]
        if readable and not codec.has_encoder:
            best = max(readable, key=lambda row: row.psnr)
            title, latent, encode_seconds, encode_bytes = f"{title}, latent by {best.codec}", best.latent, math.nan, 0
        else:
            latent, encode_seconds, encode_bytes = _costs(lambda: codec.encode(image), codec)
        decoded, decode_seconds, decode_bytes = _costs(lambda: codec.decode(latent, size=size), codec)
        png = latent_to_png(latent, note_for(latent, codec.family, codec.format, size))
        from_png = codec.decode(png_to_latent(png)[0], size=size)
        if codec.image_scale > 1:  # judged at the picture's own size
            decoded, from_png = (functional.avg_pool2d(one, codec.image_scale) for one in (decoded, from_png))
    except Exception as error:
        return RoundTrip(title, codec.format.name, error=one_line(error))
    return RoundTrip(
        title,
        codec.format.name,
        dtype=str(codec.dtype).removeprefix("torch."),
        device=str(codec.device),
        image=decoded,
        latent=latent,
        psnr=float(psnr(decoded, image)),
        ssim=float(ssim(decoded, image)),
        psnr_8bit=float(psnr(from_png, decoded)),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        peak_bytes=None if encode_bytes is None or decode_bytes is None else max(encode_bytes, decode_bytes),
        latent_png_bytes=len(png),
    )


def _costs(work: Callable[[], Tensor], codec: Codec) -> tuple[Tensor, float, int | None]:
    """(result, seconds, peak bytes)"""
    with PeakMemory(codec.device) as memory:
        first = timed(work, codec.device)
    seconds = first.wall if first.wall >= _LONG else min(first.wall, timed(work, codec.device).wall)
    return first.result, seconds, memory.bytes
