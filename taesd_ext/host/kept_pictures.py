"""Kept latents and previews as pictures of the host: decoded by its own VAE, saved with the job's parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.picture_file import image_to_picture
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.host import infotext
from taesd_ext.host.final_decode import FinalDecode
from taesd_ext.host.generation import Generations
from taesd_ext.host.history import tab_of
from taesd_ext.host.hooks import FULL
from taesd_ext.host.webui import WebUI
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.preview.recorded import KeptLatent


@dataclass(frozen=True)
class KeptPictures:
    """``frame()`` gives the newest preview of ours."""

    host: WebUI
    generations: Generations
    final: FinalDecode
    jobs: JobHistory
    frame: Callable[[], Frame | None]

    def decode_in_full(self, latent: Tensor) -> Tensor:
        """(B,C,h,w) latent in the loaded model's scale -> (B,3,H,W) image in [0,1] on the CPU, by the host's VAE."""
        # Hosts decode by the preview's method after an interrupt, where that is set.
        with torch.no_grad(), self.final.hosts_vae(), self.host.not_interrupted():
            image = self.host.common.samples_to_images_tensor(latent.to(self.host.device(), torch.float32), FULL)
            return image.float().mul(0.5).add(0.5).clamp(0, 1).cpu()

    def parameters(self, kept: KeptLatent, decoder: Codec | None) -> str:
        """The generation parameters of a kept latent that was decoded by this (None: by the host's own VAE)."""
        known = self.jobs.known_now(kept).infotext
        return infotext.decoded_again(known, decoder, f"{kept.step}/{kept.steps}" if kept.step else "")

    def save(self, picture: Image.Image, kept: KeptLatent, decoder: Codec | None) -> Path:
        tab, seed, prompt = (self.jobs.known_now(kept).extra[name] for name in ("tab", "seed", "prompt"))
        return self.host.save_picture(picture, tab, self.parameters(kept, decoder), seed, prompt)

    def save_steps(self, job: int, every: int) -> None:
        """Save every so many steps of a job in full, each picture of a batch. Never raises."""
        try:
            if not self.jobs.keeps_latents:
                raise TaesdError("latents are not kept", "", "Switch that on under TAESD > Settings")
            due = [kept for kept in self.jobs.moments(job) if kept.step and kept.step % every == 0]
            for kept in sorted(due, key=lambda kept: (kept.step, kept.picture)):
                self.save(image_to_picture(self.decode_in_full(kept.latent)), kept, None)
        except Exception as error:
            log_once(f"steps {one_line(error)}", f"Steps were not saved: {one_line(error)}")

    def save_preview(self, number: int = 0) -> Path:
        """Save a preview of the running job as it was shown, at the picture's size; 0 is the newest.

        Raises TaesdError where no job runs, where it is not kept, and where pages belong to different people.
        """
        processing = self.generations.processing
        if processing is None or not self.host.allows_changes():
            raise TaesdError("No preview was saved", "no job of yours is running")
        newest, running = self.frame(), next(iter(self.jobs.jobs()), None)
        shown = [newest, *(running.frames if running else ())] if newest else []
        frame = next((frame for frame in shown if number in (0, frame.number)), None)
        if frame is None:
            raise TaesdError("No preview was saved", "it is no longer kept")
        steps = running.steps if running else frame.step
        parameters = infotext.of_preview(self.host.parameters(processing, 0), f"{frame.step}/{steps}", frame.detail)
        seed = next(iter(getattr(processing, "all_seeds", None) or ()), None)
        prompt = str(getattr(processing, "prompt", ""))
        picture = frame.image.picture.resize(frame.full_size, Image.Resampling.BILINEAR)
        return self.host.save_picture(picture, tab_of(processing), parameters, seed, prompt)
