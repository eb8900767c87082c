"""Finished pictures: latents decoded and pictures encoded by our codecs, and what did it in the parameters."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host import infotext
from taesd_ext.host.final_vae import FinalVAE, latent_for
from taesd_ext.host.generation import FinalChoices, Generations
from taesd_ext.host.webui import DECODE_METHOD, ENCODE_METHOD, PREVIEW_METHOD, WebUI
from taesd_ext.latent_formats import Detection, detect, from_family_latent, to_family_latent
from taesd_ext.preview.drawing import no_decoder, subject_format
from taesd_ext.settings import AS_FINAL, AUTO, BUILT_IN, FAIL_TO_FULL_VAE, HOSTS_VAE, TINY_VAE
from taesd_ext.weights.vae_table import at_work


class FinalDecode:
    """The decoder and encoder of finished pictures. ``setting(name)`` gives an option's value now."""

    def __init__(
        self, host: WebUI, registry: CodecRegistry, generations: Generations, setting: Callable[[str], Any],
        vae: FinalVAE,
    ) -> None:  # fmt: skip
        self._host = host
        self._registry = registry
        self._generations = generations
        self._setting = setting
        self._thread = threading.local()
        self.vae = vae

    # What is to do it

    def choices_now(self) -> FinalChoices:
        """For a job that begins: of the running generation's choice, else of the settings."""
        processing = self._generations.processing
        if hasattr(processing, "init_images"):
            last = self._vae_for("final_vae_img2img")
        else:
            last = self._vae_for("final_vae_hires" if getattr(processing, "enable_hr", False) else "final_vae")
        first = self._vae_for("final_vae_first")
        return FinalChoices(last, first, self._setting("family"), self._setting("decode_failure"))

    def _vae_for(self, option: str) -> str:
        """For one pass: the generation's choice for it, then for all, then those of the settings."""
        mine = self._generations.choices
        of_pass = getattr(mine, option, None) or (AS_FINAL if mine.final_vae else self._setting(option))
        return (mine.final_vae or self._setting("final_vae")) if of_pass == AS_FINAL else of_pass

    @property
    def choices(self) -> FinalChoices:
        """Those of the running job, else those of the settings."""
        current = self._generations.current
        return (current and current.final) or self.choices_now()

    @contextlib.contextmanager
    def hosts_vae(self) -> Iterator[None]:
        """In this thread the host's own VAE is meant, whatever is chosen."""
        self._thread.hosts_vae = True
        try:
            yield
        finally:
            self._thread.hosts_vae = False

    def decoder_for(self, sample: Tensor, approximation: int, *, interrupted: bool) -> str:
        """What is asked for by the host's number of a method: the host's own decoder, TAESD, or a full VAE's name.

        With fast interrupt it is the preview's method, whatever the number.
        """
        if interrupted:
            return TINY_VAE if self._host.uses_taesd(PREVIEW_METHOD) else HOSTS_VAE
        chosen = HOSTS_VAE
        if self._host.is_final(approximation) and not is_film(sample) and not getattr(self._thread, "hosts_vae", False):
            chosen = self.choices.first_vae if self._generations.in_first_pass else self.choices.vae
        return TINY_VAE if chosen == HOSTS_VAE and approximation == self._host.taesd_index else chosen

    def replaces_taesd(self, sample: Tensor | None = None) -> bool:
        """Whether TAESD as a VAE is ours: not the built-in one, nor the host's own for what we do not know or guess."""
        family = self.choices.family
        if sample is not None and is_film(sample):
            return False
        if family != AUTO:
            return family != BUILT_IN
        detection = self._host.detection(None if sample is None else tuple(sample.shape))
        if (detection.family is None or detection.guess) and self._host.model() is not None:
            log_once(f"unknown {detection.reason}", f"Left to the WebUI: {detection.reason}.")
            return False
        return True

    def wants_tiny(self) -> bool:
        """Whether the running job will need a tiny autoencoder for its pictures."""
        choices, vaes = self.choices, self._vaes()
        decodes = TINY_VAE in vaes or (HOSTS_VAE in vaes and self._host.uses_taesd(DECODE_METHOD))
        return choices.family != BUILT_IN and (decodes or self._host.uses_taesd(ENCODE_METHOD))

    def _vaes(self) -> set[str]:
        """What decodes in the running job."""
        enlarges = getattr(self._generations.processing, "enable_hr", False)
        return {self.choices.vae, *([self.choices.first_vae] if enlarges else [])}

    # Doing it

    def decode(self, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1]. Raises where it cannot be done."""
        detection = self._host.detection(tuple(sample.shape))
        codec, family = self._tiny_codec(detection, "decoder")
        return self._decoded(codec, to_family_latent(sample, subject_format(family, detection)))

    def decode_by(self, vae: str, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1] by a full VAE of ours. Raises where it cannot be done."""
        detection = self._host.detection(tuple(sample.shape))
        codec = self.vae.codec(vae, detection.format)
        self._host.state.textinfo = at_work(codec.name)  # beside the host's progress bar
        try:
            return self._decoded(codec, latent_for(codec, sample, detection))
        finally:
            self._host.state.textinfo = None

    def _decoded(self, codec: Codec, latent: Tensor) -> Tensor:
        tiles: list[int] = []
        image = self._bordered(codec).decode(latent, on_tiled=tiles.append)
        _must_be_finite(image, codec)
        made = infotext.made_by(codec, "decoder") | ({infotext.TILES: tiles[-1]} if tiles else {})
        if codec.image_scale > 1 and getattr(self._generations.processing, "overlay_images", None):
            # Inpainting: the host lays what was not masked over it, at the size of before.
            image = functional.avg_pool2d(image, codec.image_scale)
            del made[infotext.IMAGE_SCALE]
        self._note_made("decoder", made)
        return image.mul_(2).sub_(1)  # in place: no second picture, and none that belongs to inference mode

    def encode(self, image: Tensor) -> Tensor:
        """(B,3,H,W) image in [0,1] -> latent as the sampler wants it, (B,C,h,w) or of one frame (B,C,1,h,w).

        Raises where it cannot be done.
        """
        evidence = self._host.evidence()
        detection = detect(evidence)
        codec, family = self._tiny_codec(detection, "encoder")
        latent_format = subject_format(family, detection)
        channels = evidence.channels or (detection.format and detection.format.latent_channels)
        if channels and family != detection.family and not latent_format.accepts(channels):
            raise TaesdError(
                f"{codec.name} cannot read this picture",
                f"its latents have {latent_format.latent_channels} channels, the loaded model's have {channels}",
                "Choose another family, or Auto",
            )
        latent = self._bordered(codec).encode(image)
        packed = evidence.channels not in (None, latent_format.latent_channels)
        latent = from_family_latent(latent, latent_format, packed=packed)
        if latent_format.frames:
            latent = latent.unsqueeze(2)
        _must_be_finite(latent, codec)
        self._note_made("encoder", infotext.made_by(codec, "encoder"))
        return latent.to(self._host.device(), self._host.dtype() or latent.dtype)

    def _bordered(self, codec: Codec) -> Codec:
        """The codec, with borders that wrap around where the generation's pictures are to tile."""
        current = self._generations.current
        return codec.circular() if current and getattr(current.processing(), "tiling", False) else codec

    def _tiny_codec(self, detection: Detection, part: str) -> tuple[Codec, str]:
        family = family_of(self.choices.family, detection)
        if family is None:
            raise no_decoder(detection)
        where = {"device": self._host.device(), "dtype": self._host.vae_dtype()}
        codec = self._registry.get(family, **where)
        if not getattr(codec, f"has_{part}"):  # its file may have come since
            self._registry.release(family)
            codec = self._registry.get(family, **where)
        return codec, family

    # Before and between

    def preload(self) -> None:
        """Load what the running job will need, or let go of what it will not. What fails is said when it is due."""
        detection, full = self._host.detection(), sorted(self._vaes() - {HOSTS_VAE, TINY_VAE})
        self.vae.keep(full)
        for vae in full:
            with contextlib.suppress(TaesdError):
                self.vae.codec(vae, detection.format).begin_job()
                self.sampling()
        if self.wants_tiny() and (family := family_of(self.choices.family, detection)):
            with contextlib.suppress(TaesdError):
                self._registry.get(family, device=self._host.device(), dtype=self._host.vae_dtype()).begin_job()

    def sampling(self) -> None:
        """The sampler needs the memory now: where it is short, a full VAE waits on the CPU."""
        if self._host.short_of_memory():
            self.vae.park()

    # What the parameters say

    def failed(self, part: str, error: Exception) -> None:
        """A finished picture could not be made or read: raises, or lets the full VAE do it, as the option says."""
        if self.choices.on_failure != FAIL_TO_FULL_VAE:
            raise error
        self.used_full_vae(part, error)

    def used_full_vae(self, part: str, error: Exception) -> None:
        """Note that the full VAE stands in for TAESD."""
        line = f"{one_line(error)} The full VAE was used instead."
        log_once(f"full VAE {line}", line)
        self._note_made(part, {})
        self._note(infotext.comment, f"TAESD: {line}")

    def used_built_in(self, part: str) -> None:
        self._note_made(part, infotext.BUILT_IN[part])

    def used_hosts_own(self, part: str) -> None:
        if self._generations.in_sampling_thread():  # the panel may compare decoders meanwhile
            if part == "decoder" and self._generations.in_first_pass:
                self._note_made(part, {})
            else:
                self._note(infotext.forget, part)

    def _note_made(self, part: str, made: dict[str, Any]) -> None:
        if part == "decoder" and self._generations.in_first_pass:
            self._note(infotext.record_first_pass, made)
        else:
            self._note(infotext.record, part, made)

    def _note(self, record: Callable[..., None], *what: Any) -> None:
        current = self._generations.current
        if current and current.open:
            record(current.processing(), *what)


def is_film(sample: Tensor) -> bool:
    """Whether a latent holds several frames, (B,C,T,h,w)."""
    return sample.ndim == 5 and sample.shape[2] > 1


def family_of(chosen: str, detection: Detection) -> str | None:
    """The family that is meant by the option."""
    return detection.family if chosen == AUTO else chosen


def _must_be_finite(made: Tensor, codec: Codec) -> None:
    if not torch.isfinite(made).all():
        raise TaesdError(f"{codec.name} produced an invalid result", "it holds NaN or Inf")
