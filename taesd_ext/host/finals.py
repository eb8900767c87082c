"""Finished pictures: latents decoded and pictures encoded by our codecs, exactly, and said in the parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host import infotext
from taesd_ext.host.final_vae import latent_for
from taesd_ext.latent_formats import Detection, detect, from_family_latent, to_family_latent
from taesd_ext.preview.drawing import no_decoder, subject_format
from taesd_ext.settings import FAIL_TO_FULL_VAE

if TYPE_CHECKING:
    from taesd_ext.host.runtime import Runtime

SMALL_TILE = 256
"""Side in pixels of the tiles in which a picture is finished when memory has run out."""


class Finals:
    """The decoder and encoder of finished pictures, by what the runtime's settings and codecs say."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._host = runtime.host

    def decode(self, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1], exact. Raises where it cannot be done."""
        detection = self._runtime.detection(tuple(sample.shape))
        codec, family = self._final_codec(detection, "decoder")
        latent = to_family_latent(sample, subject_format(family, detection))
        image = _in_less_memory_if_need_be(codec.decode, latent)
        _must_be_finite(image, codec, "picture")
        self._record("decoder", codec)
        return image.mul_(2).sub_(1)

    def decode_by(self, vae: str, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1] by a full VAE of ours. Raises where it cannot be done."""
        detection = self._runtime.detection(tuple(sample.shape))
        codec = self._runtime.final_vae.codec(vae, detection.format)
        image = _in_less_memory_if_need_be(codec.decode, latent_for(codec, sample, detection))
        _must_be_finite(image, codec, "picture")
        if current := self._runtime.generations.current:
            infotext.record_vae(current.processing(), codec)
        return image.mul_(2).sub_(1)

    def encode(self, image: Tensor) -> Tensor:
        """(B,3,H,W) image in [0,1] -> latent as the sampler wants it, (B,C,h,w) or of one frame (B,C,1,h,w).

        Raises where it cannot be done.
        """
        evidence = self._host.evidence()
        detection = detect(evidence)
        codec, family = self._final_codec(detection, "encoder")
        latent_format = subject_format(family, detection)
        channels = evidence.channels or (detection.format and detection.format.latent_channels)
        if channels and family != detection.family and not latent_format.accepts(channels):
            raise TaesdError(
                f"{codec.name} cannot read this picture",
                f"its latents have {latent_format.latent_channels} channels, and the loaded model's {channels}",
                "Choose another family, or Auto",
            )
        latent = _in_less_memory_if_need_be(codec.encode, image)
        packed = evidence.channels not in (None, latent_format.latent_channels)
        latent = from_family_latent(latent, latent_format, packed=packed)
        if latent_format.frames:
            latent = latent.unsqueeze(2)
        _must_be_finite(latent, codec, "latent")
        self._record("encoder", codec)
        return latent.to(self._host.device(), self._host.dtype() or latent.dtype)

    def failed(self, part: str, error: Exception) -> None:
        """A finished picture could not be made or read: raises, or lets the full VAE do it, as the option says."""
        if self._runtime.value("decode_failure") != FAIL_TO_FULL_VAE:
            raise error
        self.used_full_vae(part, error)

    def used_full_vae(self, part: str, error: Exception) -> None:
        """Note that the full VAE stands in for TAESD."""
        line = f"{one_line(error)} The full VAE was used instead."
        log_once(f"full VAE {line}", line)
        current = self._runtime.generations.current
        if current:
            infotext.record(current.processing(), part, None)
            infotext.comment(current.processing(), f"TAESD: {line}")

    def used_built_in(self, part: str) -> None:
        if current := self._runtime.generations.current:
            infotext.record_built_in(current.processing(), part)

    def used_hosts_own(self, part: str) -> None:
        current = self._runtime.generations.current
        if current and self._runtime.generations.in_sampling_thread():  # the panel may compare decoders meanwhile
            infotext.record_hosts_own(current.processing(), part)

    def _record(self, part: str, codec: Codec) -> None:
        if current := self._runtime.generations.current:
            infotext.record(current.processing(), part, codec)

    def _final_codec(self, detection: Detection, part: str) -> tuple[Codec, str]:
        family = self._runtime.family(self._runtime.value("family"), detection)
        if family is None:
            raise no_decoder(detection)
        codec = self._runtime.registry.get(family, device=self._host.device())
        if not getattr(codec, f"has_{part}"):  # its file may have come since
            self._runtime.registry.release(family)
            codec = self._runtime.registry.get(family, device=self._host.device())
        return codec, family


def _must_be_finite(made: Tensor, codec: Codec, what: str) -> None:
    if not torch.isfinite(made).all():
        raise TaesdError(f"{codec.name} made a {what} that is none", "its output is NaN or infinite")


def _in_less_memory_if_need_be(work: Callable[..., Tensor], tensor: Tensor) -> Tensor:
    """``work(tensor)``, in small tiles when memory runs out; never in the narrow dtype of a host's autocast."""
    with torch.autocast("cpu", enabled=False), contextlib.ExitStack() as exact:
        if torch.is_autocast_enabled():  # hires fix decodes inside the host's autocast
            exact.enter_context(torch.autocast("cuda", enabled=False))
        try:
            return work(tensor)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        log_once("final in tiles", f"Not enough memory for the whole picture: done in tiles of {SMALL_TILE} pixels.")
        return work(tensor, tile=SMALL_TILE)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
