"""What one preview shows: a batch of pictures, or the frames of a film."""

from dataclasses import dataclass

from torch import Tensor

from taesd_ext.latent_formats import Detection
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
