"""Previews of models without any of ours: learnt from the pictures that the host finishes itself."""

from __future__ import annotations

from torch import Tensor

from taesd_ext.codec.previewer import has_previewer
from taesd_ext.errors import log_once, one_line
from taesd_ext.host.webui import WebUI
from taesd_ext.latent_formats import detect
from taesd_ext.learning.finished_pictures import FinishedPictures
from taesd_ext.learning.pairs import LatentKind
from taesd_ext.learning.readout import Learnt
from taesd_ext.models.computing import computing

MOST_CHANNELS = 48
"""Up to here a read-out is solved in a few hundredths of a second; 128 channels take a second."""


class LearntPreviews:
    """Collects finished pictures of models that we cannot draw, and says what was learnt from them."""

    def __init__(self, host: WebUI) -> None:
        self._host = host
        self._pictures = FinishedPictures()

    def finished(self, latent: Tensor, image: Tensor) -> None:
        """The host has decoded a (B,C,h,w) latent to a (B,3,H,W) image in [-1,1]. Never raises."""
        try:
            kind = self._kind(tuple(latent.shape))
            if kind is None:
                return
            with computing("cpu"):
                if self._pictures.add(kind, latent, image.detach().float() / 2 + 0.5):
                    self._pictures.update(kind)
        except Exception as error:
            log_once(f"not learnt {one_line(error)}", f"Nothing was learnt from this picture: {one_line(error)}.")

    def for_channels(self, channels: int) -> Learnt | None:
        """What draws the loaded model's latents of so many channels."""
        return self.find((1, channels, 1, 1))

    def find(self, shape: tuple[int, ...]) -> Learnt | None:
        """What draws latents of this (B,C,h,w) shape of the loaded model."""
        kind = self._kind(shape)
        return kind and self._pictures.find(kind)

    def _kind(self, shape: tuple[int, ...]) -> LatentKind | None:
        """None where we have a decoder or previewer of our own for them, or cannot learn from them."""
        if len(shape) != 4 or shape[1] > MOST_CHANNELS:
            return None
        evidence = self._host.evidence(shape)
        detection = detect(evidence)
        if detection.family or (detection.format and has_previewer(detection.format.name)):
            return None
        return LatentKind(evidence.latent_format or "", shape[1])
