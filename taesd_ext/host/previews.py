"""The live previews of a WebUI: whose they are, what they go by, when they are drawn, and who gets them."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.picture_file import picture_uri
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host.final_decode import family_of, is_film
from taesd_ext.host.generation import Generations
from taesd_ext.host.history import History
from taesd_ext.host.options import HostOptions
from taesd_ext.host.webui import PAGE_POLLERS, PREVIEW_METHOD, WebUI
from taesd_ext.latent_format import has_positions
from taesd_ext.latent_formats import picture_part, to_family_latent
from taesd_ext.learning.readout import Learnt
from taesd_ext.models.computing import computing
from taesd_ext.preview.drawing import PREVIEW_DTYPE, linear_image, linear_painter, no_decoder, subject_format
from taesd_ext.preview.frame import Frame, grid_shape, limited
from taesd_ext.preview.full_size_image import FullSizeImage
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import AUTO, BUILT_IN, DEVICE_CPU, PreviewSettings
from taesd_ext.ui.markup import cost_words

SHORT_OF_MEMORY_DETAIL = "1/4"
"""The finest preview under --medvram and --lowvram."""

STRIDE = 8
"""Pixels: hosts make what hires fix enlarges in multiples of it."""


class Previews:
    """``learnt(channels)`` gives what draws latents of a model for which there is no decoder, or None."""

    def __init__(
        self, host: WebUI, registry: CodecRegistry, generations: Generations, options: HostOptions, history: History,
        learnt: Callable[[int], Learnt | None],
    ) -> None:  # fmt: skip
        self._host = host
        self._registry = registry
        self._generations = generations
        self._options = options
        self._history = history
        self._learnt = learnt
        self.session = PreviewSession(self._codec, learnt_for=learnt)
        self._job: object = None
        self._asked = False
        self._shown: object = None
        self._show_lock = threading.Lock()

    @property
    def settings(self) -> PreviewSettings:
        """What the running job's previews go by now."""
        settings = self._options.previews(self._generations.choices)
        if self._draws_between_steps(settings) and settings.detail in (AUTO, "full", "1/2"):
            settings = replace(settings, detail=SHORT_OF_MEMORY_DETAIL)
        return settings

    @property
    def active(self) -> bool:
        """Whether a job runs that has previews; one that broke off never says so."""
        return self.session.active and self._job == self._host.job() and self._host.is_busy()

    def status(self) -> dict[str, Any]:
        """The running or last job's previews, as the badge and the API tell it."""
        stats, frame, (step, steps) = self.session.stats, self.session.frame, self.session.progress
        loaded = self._host.detection().format if self._host.model() is not None else None
        return {
            "active": self.active,
            "enabled": self.are_ours() and self.settings.enabled,
            "step": step,
            "steps": steps,
            "frames": stats.frames,
            "frame": frame.number if frame else 0,
            "shown_step": frame.step if frame else 0,
            "job": self._history.number_of(self._generations.processing),
            "detail": stats.detail,
            "over_budget": frame is not None and frame.over_budget,
            "family": frame.family if frame else None,
            "milliseconds": round(stats.milliseconds, 2),
            "share": round(stats.share, 5),
            "cost": cost_words(stats),
            "model": loaded.name if loaded else None,
        }

    def are_ours(self, latent: Tensor | None = None) -> bool:
        """Whether previews, or that of this latent, are ours.

        They are the host's where its method is another one, where TAESD is left to the built-in one, and where nothing
        is known of the model.
        """
        if not self._host.uses_taesd(PREVIEW_METHOD):
            return False
        family = self.settings.family
        if latent is None or family == BUILT_IN:
            return family != BUILT_IN
        latent = picture_part(latent)
        if not has_positions(latent):
            return False
        detection = self._host.detection(tuple(latent.shape))
        if family_of(family, detection) or self._learnt(latent.shape[1]) or linear_painter(latent, detection):
            return True
        log_once(f"unknown {detection.reason}", f"Left to the WebUI: {detection.reason}.")
        return False

    def preload(self) -> Codec | None:
        """Load what the settings will need, before sampling begins; gives the codec, where there is one.

        What fails is reported when it is needed.
        """
        detection, settings = self._host.detection(), self.settings
        if not (self.are_ours() and settings.enabled and self._host.option("live_previews_enable", True)):
            return None
        codec = None
        if family := family_of(settings.family, detection):
            with contextlib.suppress(TaesdError):
                codec = self._registry.get(family, device=self._device(settings), dtype=PREVIEW_DTYPE)
                codec.begin_job()
        if detection.format and has_previewer(detection.format.name):
            with contextlib.suppress(TaesdError):
                load_previewer(detection.format.name, device=self._device(settings), dtype=PREVIEW_DTYPE)
        return codec

    # A job

    def begin(self, steps: int) -> None:
        self._job, self._asked = self._host.job(), False
        self.session.start(self.settings, steps)
        self._history.begin(steps)

    def step_done(self, step: int, steps: int) -> None:
        """A sampling step is done (counted from 1). Also starts the session for jobs that run no scripts."""
        if not self.session.active or self._job != self._host.job():  # a job that broke off never says so
            self.begin(steps)
        latent = self._host.state.current_latent
        self.session.step(step, steps, latent)
        self._history.step(latent, (step, steps), self.session.progress)
        if self._asked and self._draws_between_steps(self.session.settings):
            self._asked = False
            self._draw(self._host.state)

    def show(self, state: Any) -> None:
        """What a poll does: give the host's state a new frame, if there is one."""
        settings = self.settings
        if settings != self.session.settings:
            self.session.update(settings)
        if self._draws_between_steps(settings):
            self._asked = True
        else:
            self._draw(state)

    def shown(self) -> tuple[int, int, str]:
        """(number, step, address) of what the host shows now, whoever drew it; "" where there is no picture."""
        state, frame = self._host.state, self.session.frame
        if frame is not None and frame is self._shown and isinstance(state.current_image, FullSizeImage):
            return frame.number, frame.step, frame.image.uri
        step, _ = self._host.progress()
        picture = state.current_image
        address = picture_uri(picture.convert("RGB"), "jpeg") if picture is not None else ""
        return int(getattr(state, "id_live_preview", 0)), step, address

    def _draw(self, state: Any) -> None:
        latent = None if state.current_latent is None else picture_part(state.current_latent)
        detection = self._host.detection(None if latent is None else tuple(latent.shape))
        frame = self.session.poll(latent, detection, grid=self._grid())
        with self._show_lock:
            if frame is None or frame is self._shown:
                return
            self._shown = frame
            state.assign_current_image(FullSizeImage(frame, PAGE_POLLERS, self._size_of_job(frame, latent)))
            state.current_image_sampling_step = state.sampling_step
        self._history.frame(frame)

    def _size_of_job(self, frame: Frame, latent: Tensor | None) -> tuple[int, int]:
        """(width, height) for all who read the state: in hires fix's first pass already that of the second."""
        processing = self._generations.processing
        width, height = (getattr(processing, f"hr_upscale_to_{axis}", 0) // STRIDE * STRIDE for axis in "xy")
        if latent is None or not (self._generations.in_first_pass and width and height):
            return frame.full_size
        rows, columns = grid_shape(len(latent) if self._grid() else 1)
        return limited((columns * width, rows * height), self.session.settings.max_side)

    def _grid(self) -> bool:
        """Whether a batch is shown whole."""
        return bool(self._host.option("show_progress_grid", True))

    def _draws_between_steps(self, settings: PreviewSettings) -> bool:
        """Whether memory is so short that a preview beside the sampler's own peak may be too much."""
        return settings.device != DEVICE_CPU and self._host.previews_in_sampling_thread()

    # The host's own preview functions

    @computing()
    def as_tensor(self, sample: Tensor) -> Tensor:
        """(B,C,h,w) latent -> (B,3,H,W) image in [-1,1]. Never raises.

        A film is shown by its first frame, as one of one frame, (B,1,3,H,W).
        """
        sample = picture_part(sample)
        detection = self._host.detection(tuple(sample.shape))
        family = family_of(self.settings.family, detection)
        try:
            if family is None:
                raise no_decoder(detection)
            image = self._codec(family).decode(to_family_latent(sample, subject_format(family, detection)))
        except Exception as error:
            log_once(f"preview tensor {one_line(error)}", one_line(error))
            image = linear_image(sample[:, :, 0] if sample.ndim == 5 else sample, detection)
        if is_film(sample):
            image = image.unsqueeze(1)
        return image.float() * 2 - 1

    def _codec(self, family: str) -> Codec:
        """In the sampling thread only what is loaded; elsewhere loading is quick and nobody waits."""
        device = self._device(self.session.settings)
        if self._generations.in_sampling_thread():
            return self._registry.loaded(family, device=device, dtype=PREVIEW_DTYPE)
        return self._registry.get(family, device=device, dtype=PREVIEW_DTYPE, wait=False)

    def _device(self, settings: PreviewSettings) -> Any:
        return "cpu" if settings.device == DEVICE_CPU else self._host.device()
