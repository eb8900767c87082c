"""Pieces of finished pictures and of the latents that they were decoded from, as small as they can teach."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.latent_formats import BY_NAME
from taesd_ext.weights.folders import cache_folder

PIXELS = 2
"""Of a preview, along a side of a latent position."""

SIDE = 48
"""A pair is cut to the middle of so many positions along a side."""

SMALLEST = 8
"""Positions along a side: less than that teaches nothing."""


def learnt_folder() -> Path:
    """Where learnt previewers are kept."""
    return cache_folder() / "previewers"


@dataclass(frozen=True)
class LatentKind:
    """What a learnt previewer serves: the host's name for the latents, their channels, and the VAE if it matters."""

    name: str
    channels: int
    vae: str = ""

    @property
    def title(self) -> str:
        """For people, as "Wan21, 16 channels, VAE 1a2b3c4d"."""
        vae = f", VAE {self.vae[:8]}" if self.vae else ""
        return f"{self.name or 'unnamed model'}, {self.channels} channels{vae}"

    def serves(self, wanted: "LatentKind") -> bool:
        """Whether what was made for this kind, with any VAE or with the same, shows another one's latents.

        It may be called by the name of our own format, too.
        """
        names = (self.name, *(BY_NAME[self.name].host_names if self.name in BY_NAME else ()))
        return wanted.name in names and self.channels == wanted.channels and self.vae in ("", wanted.vae)

    @property
    def file(self) -> Path:
        digest = hashlib.sha256(f"{self.name}\n{self.channels}\n{self.vae}".encode()).hexdigest()[:24]
        return learnt_folder() / f"{digest}.safetensors"


@dataclass(frozen=True, eq=False)
class Pair:
    """A piece of a finished picture, as small as it can teach."""

    latent: Tensor
    """(1,C,h,w) float16"""
    picture: Tensor
    """(1,3,2h,2w) float16 in [0,1]"""

    @property
    def bytes(self) -> int:
        return 2 * (self.latent.numel() + self.picture.numel())


def make_pair(latent: Tensor, picture: Tensor) -> Pair | None:
    """Of a (1,C,h,w) latent and its (1,3,H,W) picture in [0,1]; None where they cannot teach."""
    height, width = latent.shape[-2:]
    high, wide = min(SIDE, height), min(SIDE, width)
    factor = picture.shape[-1] / width
    if min(high, wide) < SMALLEST or factor < PIXELS or factor != picture.shape[-2] / height:
        return None
    top, left = (height - high) // 2, (width - wide) // 2
    rows = slice(int(top * factor), int((top + high) * factor))
    part = picture[..., rows, int(left * factor) : int((left + wide) * factor)]
    small = functional.adaptive_avg_pool2d(part.detach().float(), (PIXELS * high, PIXELS * wide))
    kept = latent[..., top : top + high, left : left + wide].detach()
    pair = Pair(kept.to("cpu", torch.float16, copy=True), small.to("cpu", torch.float16, copy=True))
    finite = torch.isfinite(pair.latent).all() and torch.isfinite(pair.picture).all()
    return pair if finite else None
