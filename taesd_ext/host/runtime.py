"""The extension inside one WebUI: its codecs, its preview session, and what the settings ask of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host.final_vae import FinalVAE
from taesd_ext.host.finals import Finals
from taesd_ext.host.generation import Generations
from taesd_ext.host.history import Keeping
from taesd_ext.host.idle import IdleLearning
from taesd_ext.host.webui import DECODE_METHOD, ENCODE_METHOD, PAGE_POLLERS, PREVIEW_METHOD, WebUI
from taesd_ext.latent_formats import Detection, detect, to_family_latent
from taesd_ext.preview.drawing import LINEAR, PREVIEW_DTYPE, linear_painter, no_decoder, subject_format
from taesd_ext.preview.full_size_image import FullSizeImage
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import (
    AUTO,
    BUILT_IN,
    DEVICE_CPU,
    HOSTS_VAE,
    OPTION,
    OPTIONS,
    TINY_VAE,
    PreviewSettings,
    option_value,
)
from taesd_ext.weights.vae_choice import canonical_name

SHORT_OF_MEMORY_DETAIL = "1/4"
"""The finest preview under --medvram and --lowvram."""


class Runtime:
    """Everything of ours that lives as long as the WebUI does."""

    def __init__(self, host: WebUI) -> None:
        self.host = host
        self.registry = CodecRegistry(host.weights_folders)
        self.generations = Generations()
        self.session = PreviewSession(self._preview_codec)
        self.keeping = Keeping(host)
        self.final_vae = FinalVAE(host)
        self.finals = Finals(self)
        self._thread = threading.local()
        self.learning = IdleLearning(host.is_busy)
        self._job: object = None
        self._asked = False
        self._shown: object = None
        self._show_lock = threading.Lock()

    # Settings

    def value(self, name: str) -> Any:
        """An option's checked value."""
        return option_value(name, self._values())

    def choices(self, name: str) -> list[str]:
        """What an option offers now; empty for numbers and switches."""
        option = OPTION[name]
        return self.final_vae.choices() if option.kind == "name" else list(option.choices)

    def set_value(self, name: str, value: Any) -> None:
        """Set an option and save it. Raises ValueError for what it cannot be, TaesdError where the host refuses."""
        option = OPTION[name]
        value = option.check(value)
        if option.kind == "name":
            value, choices = canonical_name(value), self.choices(name)
            if value not in choices and value != self.value(name):
                raise ValueError(f"one of {', '.join(choices)} was expected")
        self.host.set_option(option.key, value)

    def _values(self) -> dict[str, Any]:
        return {option.key: self.host.option(option.key) for option in OPTIONS}

    def preview_settings(self) -> PreviewSettings:
        """The settings now: options, then the choices of the running generation, then what the host has a say in."""
        settings = self.generations.choices.apply(PreviewSettings.from_options(self._values()))
        if self._draws_between_steps(settings) and settings.detail in (AUTO, "full", "1/2"):
            settings = replace(settings, detail=SHORT_OF_MEMORY_DETAIL)
        return replace(
            settings,
            interval=settings.interval or max(1, self.host.preview_period()),
            frame_format=self.host.frame_format() or settings.frame_format,
        )

    def draws_previews(self) -> bool:
        """Whether previews are ours: the host's method is TAESD, and not left to the built-in one."""
        return self.host.uses_taesd(PREVIEW_METHOD) and self.preview_settings().family != BUILT_IN

    def replaces_vae(self) -> bool:
        """Whether TAESD as a VAE is ours rather than the built-in one."""
        return self.value("family") != BUILT_IN

    def final_choice(self) -> str:
        """What is to make finished pictures: of the running generation's choice, else of the settings."""
        if getattr(self._thread, "hosts_vae", False):
            return HOSTS_VAE
        return self.generations.choices.final_vae or self.value("final_vae")

    @contextlib.contextmanager
    def hosts_vae(self) -> Iterator[None]:
        """In this thread the host's own VAE is meant, whatever is chosen."""
        self._thread.hosts_vae = True
        try:
            yield
        finally:
            self._thread.hosts_vae = False

    def detection(self, shape: tuple[int, ...] | None = None) -> Detection:
        """Which latent format the loaded model has; asked anew each time, as it changes within a generation."""
        return detect(self.host.evidence(shape))

    # Codecs

    def preload(self) -> None:
        """Load what the settings will need, before sampling begins. What fails is reported when it is needed."""
        detection = self.detection()
        settings = self.preview_settings()
        final = self._preload_final(detection)
        wanted = []
        if self.draws_previews() and settings.enabled and self.host.option("live_previews_enable", True):
            wanted.append((self.family(settings.family, detection), self._preview_device(settings), PREVIEW_DTYPE))
        decodes = final == TINY_VAE or (final == HOSTS_VAE and self.host.uses_taesd(DECODE_METHOD))
        if self.replaces_vae() and (decodes or self.host.uses_taesd(ENCODE_METHOD)):
            wanted.append((self.family(self.value("family"), detection), self.host.device(), None))
        for family, device, dtype in wanted:
            try:
                codec = self.registry.get(family, device=device, dtype=dtype) if family else None
            except TaesdError:
                codec = None
            if codec:
                codec.begin_job()
            if dtype == PREVIEW_DTYPE:
                self._warm_up(codec, detection)

    def _warm_up(self, codec: Codec | None, detection: Detection) -> None:
        """Have at hand what a poll would otherwise wait for: the heads, or without a decoder the previewer."""
        if codec and codec.has_decoder:
            self.learning.want(codec)
        elif detection.format and has_previewer(detection.format.name):
            with contextlib.suppress(TaesdError):
                load_previewer(detection.format.name, device=self.host.device(), dtype=PREVIEW_DTYPE)

    def _preload_final(self, detection: Detection) -> str:
        """Load the VAE for finished pictures, or let go of one that is chosen no more; say what is chosen."""
        final = self.final_choice()
        if final in (HOSTS_VAE, TINY_VAE):
            self.final_vae.release()
        else:
            with contextlib.suppress(TaesdError):
                self.final_vae.codec(final, detection.format).begin_job()
        return final

    @staticmethod
    def family(chosen: str, detection: Detection) -> str | None:
        return detection.family if chosen == AUTO else chosen

    def _preview_device(self, settings: PreviewSettings) -> Any:
        return "cpu" if settings.device == DEVICE_CPU else self.host.device()

    def _preview_codec(self, family: str) -> Codec:
        """For the session. In the sampling thread only what is loaded; elsewhere loading is quick and nobody waits."""
        device = self._preview_device(self.session.settings)
        if self.generations.in_sampling_thread():
            return self.registry.loaded(family, device=device, dtype=PREVIEW_DTYPE)
        return self.registry.get(family, device=device, dtype=PREVIEW_DTYPE, wait=False)

    # Previews

    def begin_previews(self, steps: int) -> None:
        self._job, self._asked = self.host.job(), False
        self.session.start(self.preview_settings(), steps)
        current = self.generations.current
        self.keeping.begin(
            current and current.processing(), steps,
            timeline=self.value("timeline"), latents=self.value("keep_latents"),
        )  # fmt: skip

    def step_done(self, step: int, steps: int) -> None:
        """A sampling step is done (counted from 1). Also starts the session for jobs that run no scripts."""
        if not self.session.active or self._job != self.host.job():  # a job that broke off never says so
            self.begin_previews(steps)
        self.session.step(step, steps, self.host.state.current_latent)
        if self._asked and self._draws_between_steps(self.session.settings):
            self._asked = False
            self._draw_preview(self.host.state)

    def _draws_between_steps(self, settings: PreviewSettings) -> bool:
        """Whether memory is so short that a preview beside the sampler's own peak may be too much."""
        return settings.device != DEVICE_CPU and self.host.previews_in_sampling_thread()

    def show_preview(self, state: Any) -> None:
        """What a poll does: give the host's state a new frame, if there is one."""
        settings = self.preview_settings()
        if settings != self.session.settings:
            self.session.update(settings)
        if self._draws_between_steps(settings):
            self._asked = True
        else:
            self._draw_preview(state)

    def _draw_preview(self, state: Any) -> None:
        latent = state.current_latent
        shape = None if latent is None else tuple(latent.shape)
        grid = bool(self.host.option("show_progress_grid", True))
        frame = self.session.poll(latent, self.detection(shape), grid=grid)
        with self._show_lock:
            if frame is None or frame is self._shown:
                return
            self._shown = frame
            state.assign_current_image(FullSizeImage(frame, PAGE_POLLERS))
            state.current_image_sampling_step = state.sampling_step
        self.keeping.recorder.add(frame)

    @torch.inference_mode()
    def preview_tensor(self, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1] for the host's own preview functions. Never raises.

        A film is shown by its first frame, as one of one frame, (B,1,3,H,W).
        """
        detection = self.detection(tuple(sample.shape))
        family = self.family(self.preview_settings().family, detection)
        try:
            if family is None:
                raise no_decoder(detection)
            codec = self._preview_codec(family)
            image = codec.decode(to_family_latent(sample, subject_format(family, detection)))
        except Exception as error:
            log_once(f"preview tensor {one_line(error)}", one_line(error))
            image = _linear_image(sample, detection)
        if is_film(sample):
            image = image.unsqueeze(1)
        with torch.inference_mode(False):
            return image.float() * 2 - 1

    def close(self) -> None:
        self.learning.close()
        self.session.cancel()
        self.generations.clear()
        self.registry.release()
        self.final_vae.release()


def _linear_image(sample: Tensor, detection: Detection) -> Tensor:
    painter = linear_painter(sample, detection)
    if painter is None:
        return sample.new_full((len(sample), 3, *sample.shape[-2:]), 0.5)
    return painter.paint(sample, LINEAR)


def is_film(sample: Tensor) -> bool:
    """Whether a latent holds several frames, (B,C,T,h,w)."""
    return sample.ndim == 5 and sample.shape[2] > 1
