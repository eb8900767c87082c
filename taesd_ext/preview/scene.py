"""What one preview shows: a batch of pictures, or the frames of a film."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.noise import seeded
from taesd_ext.latent_formats import Detection
from taesd_ext.learning.ridge import ConvolutionFit
from taesd_ext.settings import MOVING, PreviewSettings

MOST_FRAMES = 48
"""Of a film: more make the page's answers large, and a preview none the clearer."""

_FRAME_SECONDS = 0.25
"""What one latent frame stands for: four pictures of Wan and its kin, at 16 a second."""


@dataclass(frozen=True)
class Scene:
    """The latents at hand and what is known of them."""

    latents: Tensor
    """(B,C,h,w), of a batch of films the first frames; or the (T,C,h,w) frames of one film."""
    detection: Detection
    settings: PreviewSettings
    film: bool = False

    @classmethod
    def of(cls, samples: Tensor, detection: Detection, settings: PreviewSettings) -> "Scene":
        """A film where the samples hold several frames and it is to move: the first of a batch."""
        if settings.film == MOVING and samples.ndim == 5 and samples.shape[2] > 1:
            return cls(samples[0].movedim(1, 0), detection, settings, film=True)
        return cls(samples[:, :, 0] if samples.ndim == 5 else samples, detection, settings)

    @property
    def shown(self) -> Tensor:
        """Latents of as many pictures as stand side by side."""
        return self.latents[:1] if self.film else self.latents

    @property
    def seconds(self) -> float:
        """How long a film lasts."""
        return _FRAME_SECONDS * len(self.latents)

    @property
    def most_frames(self) -> int:
        return min(len(self.latents), MOST_FRAMES) if self.film else 1

    @property
    def frames(self) -> Tensor:
        """The frames of a film that are shown; of a batch all pictures."""
        return self.latents[spread(self.most_frames, len(self.latents))] if self.film else self.latents


def spread(count: int, length: int) -> list[int]:
    """So many places of a row at even distances, from the first on."""
    return [place * length // count for place in range(count)]


def between_key_frames(latents: Tensor, places: Sequence[int], drawn: Tensor) -> Tensor:
    """All frames of a film for the price of a few: the decoder draws these, a read-out that they teach the others.

    (T,C,h,w) latents and the (K,3,s*h,s*w) pictures of those at ``places``, rising from 0 -> (T,3,s*h,s*w).

    A 3x3 read-out of the latent is solved from these pictures, in milliseconds: they are of the same scene, and as
    noisy. What it lacks of them is faded from one to the next, so that the film does not flicker where nothing moves.
    """
    latents, pictures = latents.float().cpu(), drawn.float().cpu()
    scale = pictures.shape[-1] // latents.shape[-1]
    wanted = functional.pixel_unshuffle(pictures, scale)
    fit, generator = ConvolutionFit(latents.shape[1], wanted.shape[1]), seeded(0)
    for place, picture in zip(places, wanted.split(1), strict=True):
        fit.add(latents[place : place + 1], picture, generator)
    shown = functional.pixel_shuffle(fit.solve()(latents), scale)
    lacking = pictures - shown[list(places)]
    for index, place in enumerate(places):
        after = places[index + 1] if index + 1 < len(places) else len(latents)
        following = lacking[min(index + 1, len(places) - 1)]
        for frame in range(place, after):
            shown[frame] += torch.lerp(lacking[index], following, (frame - place) / (after - place))
    return shown.clamp_(0, 1)
