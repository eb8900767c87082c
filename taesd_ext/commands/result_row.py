"""What became of one picture in one codec: a row of the comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class ResultRow:
    """One picture through one codec and back. Where ``error`` says something, nothing else is known."""

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
    """dB against the original after a stay as an 8-bit PNG."""
    psnr_8bit_exact: float = math.nan
    """dB of that against what came back from the exact latent: what the 8 bits alone cost."""
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan
    peak_bytes: int | None = None
    """Beyond the weights and the picture; None where the system does not tell."""
    picture_bytes: int = 0
    """Of the raw picture, 3 bytes a pixel."""
    latent_bytes: int = 0
    """Of the raw latent, 2 bytes a number."""
    latent_png_bytes: int = 0
    error: str = ""

    @property
    def compression(self) -> float:
        """Raw picture over latent PNG."""
        return self.picture_bytes / self.latent_png_bytes if self.latent_png_bytes else math.nan

    def numbers(self) -> dict[str, Any]:
        """Everything but the tensors, as JSON knows it: what is infinite or unknown is null."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        latent = values.pop("latent")
        values.pop("image")
        values["latent_shape"] = list(latent.shape) if latent is not None else None
        values["compression"] = self.compression
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
