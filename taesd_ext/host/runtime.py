"""The extension inside one WebUI: its codecs, its previews, its finished pictures, what it keeps."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import Any

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host.final_decode import FinalDecode, family_of, is_film
from taesd_ext.host.generation import Generations
from taesd_ext.host.history import History
from taesd_ext.host.idle import IdleLearning
from taesd_ext.host.learnt_previews import LearntPreviews
from taesd_ext.host.options import HostOptions
from taesd_ext.host.webui import PAGE_POLLERS, PREVIEW_METHOD, WebUI
from taesd_ext.latent_formats import Detection, detect, picture_part, to_family_latent
from taesd_ext.models.computing import computing
from taesd_ext.preview.drawing import LINEAR, PREVIEW_DTYPE, linear_painter, no_decoder, subject_format
from taesd_ext.preview.full_size_image import FullSizeImage
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import AUTO, BUILT_IN, DEVICE_CPU, PreviewSettings
from taesd_ext.weights.folders import search_folders
from taesd_ext.weights.installed import candidates

SHORT_OF_MEMORY_DETAIL = "1/4"
"""The finest preview under --medvram and --lowvram."""

PATIENCE = 0.05
"""Seconds that a generation waits for what it will need: as good as nothing, and enough for what is loaded already."""


class Runtime:
    """Everything of ours that lives as long as the WebUI does."""

    def __init__(self, host: WebUI) -> None:
        self.host = host
        self.registry = CodecRegistry(host.weights_folders)
        self.generations = Generations()
        self.session = PreviewSession(self._preview_codec, learnt_for=lambda channels: self.learnt.find(channels))
        self.history = History(host)
        self.final = FinalDecode(host, self.registry, self.generations, lambda name: self.options.value(name))
        self.options = HostOptions(host, {"final_vae": self.final.vae.choices})
        self.learning = IdleLearning(host.is_busy)
        self.learnt = LearntPreviews(
            host, lambda: self.options.value("learn") and host.allows_changes(), self._has_decoder,
            self.learning.want_work,
        )  # fmt: skip
        self._job: object = None
        self._asked = False
        self._shown: object = None
        self._show_lock = threading.Lock()

    def preview_settings(self) -> PreviewSettings:
        """What the running job's previews go by now."""
        settings = self.options.previews(self.generations.choices)
        if self._draws_between_steps(settings) and settings.detail in (AUTO, "full", "1/2"):
            settings = replace(settings, detail=SHORT_OF_MEMORY_DETAIL)
        return settings

    def detection(self, shape: tuple[int, ...] | None = None) -> Detection:
        """Which latent format the loaded model has; asked anew each time, as it changes within a generation."""
        return detect(self.host.evidence(shape))

    def draws_previews(self, latent: Tensor | None = None) -> bool:
        """Whether previews, or that of this latent, are ours.

        They are the host's where its method is another one, where TAESD is left to the built-in one, and where nothing
        is known of the model.
        """
        if not self.host.uses_taesd(PREVIEW_METHOD):
            return False
        family = self.preview_settings().family
        if latent is None or family == BUILT_IN:
            return family != BUILT_IN
        latent = picture_part(latent)
        detection = self.detection(tuple(latent.shape))
        if family_of(family, detection) or self.learnt.find(latent.shape[1]) or linear_painter(latent, detection):
            return True
        log_once(f"unknown {detection.reason}", f"Left to the WebUI, {detection.reason}.")
        return False

    # Codecs

    def preload(self) -> None:
        """Load what the settings will need, before sampling begins. What fails is reported when it is needed."""
        self.final.preload()
        self.learnt.begin()
        detection, settings = self.detection(), self.preview_settings()
        if not (self.draws_previews() and settings.enabled and self.host.option("live_previews_enable", True)):
            return
        codec = None
        if family := family_of(settings.family, detection):
            with contextlib.suppress(TaesdError):
                codec = self.registry.get(family, device=self._preview_device(settings), dtype=PREVIEW_DTYPE)
                codec.begin_job()
        if codec and codec.has_decoder:
            self.learning.want(codec)
        if detection.format and has_previewer(detection.format.name):
            with contextlib.suppress(TaesdError):
                load_previewer(detection.format.name, device=self._preview_device(settings), dtype=PREVIEW_DTYPE)

    def preload_beside(self, patience: float = 0.0) -> None:
        """The same in a thread of its own, for which the host's waits so many seconds at most.

        Polls that come before it is ready get a rougher preview; the finished picture waits for what it needs.
        """
        thread = threading.Thread(target=self._preload_quietly, name="taesd-ext-preload", daemon=True)
        thread.start()
        thread.join(patience)

    def _preload_quietly(self) -> None:
        try:
            self.preload()
        except Exception as error:  # the model may be swapped once more meanwhile
            log_once(f"preload {one_line(error)}", one_line(error))

    def _has_decoder(self, family: str) -> bool:
        return bool(candidates(family, "decoder", search_folders(self.host.weights_folders())))

    def _preview_device(self, settings: PreviewSettings) -> Any:
        return "cpu" if settings.device == DEVICE_CPU else self.host.device()

    def _preview_codec(self, family: str) -> Codec:
        """For the session. In the sampling thread only what is loaded; elsewhere loading is quick and nobody waits."""
        device = self._preview_device(self.session.settings)
        if self.generations.in_sampling_thread():
            return self.registry.loaded(family, device=device, dtype=PREVIEW_DTYPE)
        return self.registry.get(family, device=device, dtype=PREVIEW_DTYPE, wait=False)

    # Previews

    @property
    def active(self) -> bool:
        """Whether a job runs that has previews; one that broke off never says so."""
        return self.session.active and self._job == self.host.job() and self.host.is_busy()

    def begin_previews(self, steps: int) -> None:
        self._job, self._asked = self.host.job(), False
        self.session.start(self.preview_settings(), steps)
        own = self.host.allows_changes()  # else pages belong to different people: nothing of theirs is kept
        self.history.jobs.keep(
            frames=own and self.options.value("timeline"),
            latents=own and self.options.value("keep_latents"),
            limit=self.options.value("history_size") * 2**20,
        )
        self.history.begin(self.generations.processing, steps, inner=self.generations.nested)

    def step_done(self, step: int, steps: int) -> None:
        """A sampling step is done (counted from 1). Also starts the session for jobs that run no scripts."""
        if not self.session.active or self._job != self.host.job():  # a job that broke off never says so
            self.begin_previews(steps)
        latent = self.host.state.current_latent
        self.session.step(step, steps, latent)
        detection = self.detection(None if latent is None else tuple(latent.shape))
        self.history.step(self.generations.processing, latent, detection, (step, steps), self.session.progress)
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
        latent = None if state.current_latent is None else picture_part(state.current_latent)
        shape = None if latent is None else tuple(latent.shape)
        grid = bool(self.host.option("show_progress_grid", True))
        frame = self.session.poll(latent, self.detection(shape), grid=grid)
        with self._show_lock:
            if frame is None or frame is self._shown:
                return
            self._shown = frame
            state.assign_current_image(FullSizeImage(frame, PAGE_POLLERS))
            state.current_image_sampling_step = state.sampling_step
        self.history.frame(frame, self.generations.processing)

    @computing()
    def preview_tensor(self, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1] for the host's own preview functions. Never raises.

        A film is shown by its first frame, as one of one frame, (B,1,3,H,W).
        """
        sample = picture_part(sample)
        detection = self.detection(tuple(sample.shape))
        family = family_of(self.preview_settings().family, detection)
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
        return image.float() * 2 - 1

    def close(self) -> None:
        self.learning.close()
        self.session.cancel()
        self.generations.clear()
        self.registry.release()
        self.final.vae.release()


def _linear_image(sample: Tensor, detection: Detection) -> Tensor:
    sample = sample[:, :, 0] if sample.ndim == 5 else sample
    painter = linear_painter(sample, detection)
    if painter is None:
        return sample.new_full((len(sample), 3, *sample.shape[-2:]), 0.5)
    return painter.paint(sample, LINEAR)
