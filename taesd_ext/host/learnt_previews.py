"""Previews of models without any of ours: learnt from the pictures that the host finishes itself."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from taesd_ext.codec.previewer import has_previewer
from taesd_ext.errors import log_once, one_line
from taesd_ext.host.webui import WebUI
from taesd_ext.latent_format import has_positions, picture_part
from taesd_ext.latent_formats import Detection, detect
from taesd_ext.learning.finished_pictures import ENOUGH_TO_TRAIN, FinishedPictures
from taesd_ext.learning.pairs import LatentKind
from taesd_ext.learning.readout import Learnt
from taesd_ext.models.computing import computing
from taesd_ext.preview.drawing import linear_image

MOST_CHANNELS = 128

WhenIdle = Callable[[str, str, Callable[[], Iterator[object]]], None]
"""(what tells the work from any other, its name for the log, what begins it)"""


class LearntPreviews:
    """Collects finished pictures of models for which no tiny decoder is here, and says what was learnt from them.

    ``wanted`` says whether anything may be kept and learnt now, ``has_decoder`` whether a family's decoder is here.
    """

    def __init__(
        self, host: WebUI, wanted: Callable[[], bool], has_decoder: Callable[[str], bool], when_idle: WhenIdle
    ) -> None:
        self._host = host
        self._wanted, self._has_decoder, self._when_idle = wanted, has_decoder, when_idle
        self._pictures = FinishedPictures(host.weights_folders)
        self._vae = ""
        self._waiting: set[LatentKind] = set()
        self._turn = threading.Lock()

    def begin(self) -> None:
        """A model was loaded, or a job begins: see which VAE it has."""
        self._vae = self._host.vae_digest()

    def finished(self, latent: Tensor, image: Tensor) -> None:
        """The host has decoded a latent, (B,C,h,w) or of a film, to an image in [-1,1]. Never raises, never waits."""
        try:
            latent = picture_part(latent)
            if not self._wanted() or not has_positions(latent):
                return
            detection = detect(self._host.evidence(tuple(latent.shape)))
            if self._is_drawn(detection) or latent.shape[1] > MOST_CHANNELS:
                return
            if latent.ndim == 5:  # the first frame of each film, (B,C,T,h,w) and (B,T,3,H,W)
                latent, image = latent[:, :, 0], image[:, 0]
            self.begin()
            kind = self._kind(latent.shape[1])
            with computing("cpu"):
                count = self._pictures.add(kind, latent, image[:, :3].detach().float() / 2 + 0.5)
            if count and kind not in self._waiting:
                self._waiting.add(kind)
                threading.Thread(
                    target=self._update, args=(kind, detection), name="taesd-ext-learning-pictures", daemon=True
                ).start()
            if count >= ENOUGH_TO_TRAIN:  # and again each time that there are twice as many
                key = f"{kind.file.name} {count.bit_length()}"
                self._when_idle(key, "The preview of this model", lambda: self._pictures.train(kind))
        except Exception as error:
            _not_learnt(error)

    def find(self, channels: int) -> Learnt | None:
        """What draws latents of the loaded model with so many channels."""
        return self._pictures.find(self._kind(channels)) if self._wanted() else None

    def learnt(self) -> dict[LatentKind, Learnt]:
        """Everything that was learnt."""
        return self._pictures.learnt()

    def forget(self, kind: LatentKind) -> None:
        self._pictures.forget(kind)

    def _update(self, kind: LatentKind, detection: Detection) -> None:
        try:
            with self._turn:
                self._waiting.discard(kind)
                with computing("cpu"):
                    known = detection.format or detection.rgb
                    self._pictures.update(kind, [partial(linear_image, detection=detection)] if known else [])
        except Exception as error:
            _not_learnt(error)

    def _kind(self, channels: int) -> LatentKind:
        return LatentKind(self._host.evidence().latent_format or "", channels, self._vae)

    def _is_drawn(self, detection: Detection) -> bool:
        """Whether there is a decoder or a previewer of our own for the model."""
        row = detection.format
        if row is None:
            return False
        return has_previewer(row.name) or (row.family is not None and self._has_decoder(row.family))


def _not_learnt(error: Exception) -> None:
    log_once(f"not learnt {one_line(error)}", f"Nothing was learnt from this picture: {one_line(error)}.")
