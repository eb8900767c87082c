"""The demo's generation: a known picture's latent, denoised again while a PreviewSession shows it.

A sampler at noise level sigma holds ``x = latent + sigma * noise`` and its network predicts the clean latent from it.
The best linear prediction is Wiener's filter: each frequency is kept as far as the picture's power there exceeds the
noise's. It shows what a real run shows: blotches of colour first, then shapes, then detail.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import Detection, LatentFormat, native_format
from taesd_ext.models.latent_rgb import LATENT_RGB, rgb_to_latent
from taesd_ext.preview.frame import Frame, preview_image
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings
from taesd_ext.ui.pictures import fitted

# The noise levels of Stable Diffusion 1 on the schedule of Karras et al. 2022 (rho = 7).
_SIGMA_MAX, _SIGMA_MIN, _RHO = 14.6146, 0.0292, 7.0

COLOURS_ONLY = "These are rough colours only: this family needs its files to encode the picture."


@dataclass(frozen=True)
class Plan:
    """What to generate, and how many seconds each step is to take."""

    picture: Image.Image
    size: int
    steps: int
    step_time: float
    settings: PreviewSettings
    title: str = ""


@dataclass(frozen=True)
class Progress:
    """What the page shows after each step, and at the end."""

    step: int
    frame: Frame | None
    timings: tuple[tuple[str, str], ...] = ()
    """(what, how long), in words, once all is done."""
    note: str = ""


def noise_levels(steps: int) -> list[float]:
    """``steps`` falling sigmas."""
    ends = (_SIGMA_MAX ** (1 / _RHO), _SIGMA_MIN ** (1 / _RHO))
    return [float((ends[0] + (ends[1] - ends[0]) * i / max(steps - 1, 1)) ** _RHO) for i in range(steps)]


def replay(latent: Tensor, steps: int) -> Iterator[Tensor]:
    """The predicted clean latent of each step, from noise to (nearly) ``latent``; (B,C,h,w) each, float32.

    The global random state is left alone.
    """
    latent = latent.float()
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0)).to(latent.device)
    picture_power = _ring_power(latent)
    positions = latent.shape[-2] * latent.shape[-1]
    for sigma in noise_levels(steps):
        kept = picture_power / (picture_power + sigma**2 * positions)
        seen = torch.fft.rfft2(latent + sigma * noise)
        yield torch.fft.irfft2(seen * kept, s=latent.shape[-2:])


def _ring_power(latent: Tensor) -> Tensor:
    """|FFT|^2 averaged over rings of equal frequency, (B,C,h,w//2+1): the picture's spectrum without its phases."""
    power = torch.fft.rfft2(latent).abs().square()
    rows = torch.fft.fftfreq(latent.shape[-2], device=latent.device)[:, None]
    columns = torch.fft.rfftfreq(latent.shape[-1], device=latent.device)[None, :]
    ring = ((rows.square() + columns.square()).sqrt() * max(latent.shape[-2:])).round().long().flatten()
    sums = torch.zeros(*power.shape[:2], int(ring.max()) + 1, device=latent.device)
    sums.index_add_(2, ring, power.flatten(2))
    return (sums / torch.bincount(ring).clamp_min(1))[:, :, ring].view_as(power)


class Replays:
    """Runs of the demo, and what outlives them: the previews, the latents, and the session, for what it cost.

    ``codec_for(family)`` gives a loaded codec or raises TaesdError.
    """

    def __init__(self, codec_for: Callable[[str], Codec]) -> None:
        self._codec_for = codec_for
        self.history = JobHistory()
        self.session = PreviewSession(codec_for)

    def run(self, plan: Plan, sleep: Callable[[float], object] = time.sleep) -> Iterator[Progress]:
        """One Progress a step, and a last one with the finished picture and the timings.

        Without weights for the family, the latent is the one whose linear preview looks like the picture; a family
        that has no linear preview raises its TaesdError.
        """
        picture = fitted(plan.picture, plan.size)
        latent, latent_format, codec = self._encoded(plan, picture_to_image(picture))
        note = "" if codec else COLOURS_ONLY
        session = self.session = PreviewSession(self._codec_for)
        session.start(plan.settings, plan.steps)
        job = self.history.begin(plan.title, plan.steps, decoder=plan.settings.family)
        frame = None
        for step, seen in enumerate(replay(latent, plan.steps), 1):
            sleep(plan.step_time)
            session.step(step)
            frame = session.poll(seen, Detection(latent_format, "chosen by hand"))
            self.history.add_latents(job, step, plan.steps, seen.half().cpu(), latent_format)
            self.history.add_frame(job, frame)
            yield Progress(step, frame, note=note)
        session.finish()
        self.history.add_finished(job, latent, latent_format)
        self.history.finish(job)
        stats = session.stats
        timings = [
            ("Previews", f"{stats.frames} in {plan.steps} steps, detail {stats.detail}"),
            ("One preview", f"{stats.milliseconds:.1f} ms"),
            ("All previews", f"{stats.seconds:.2f} s of {stats.elapsed:.1f} s ({100 * stats.share:.1f} %)"),
        ]
        if codec and codec.has_decoder:
            began = time.perf_counter()
            image = codec.decode(latent, size=(picture.height, picture.width))
            took = 1000 * (time.perf_counter() - began)
            likeness = float(psnr(image, picture_to_image(picture)))
            number = frame.number + 1 if frame else 1
            frame = Frame(number, plan.steps, preview_image(image), picture.size, "full", codec.title, took)
            timings.append(("Final decode", f"{took:.0f} ms, {likeness:.1f} dB PSNR"))
        yield Progress(plan.steps, frame, tuple(timings), note)

    def _encoded(self, plan: Plan, image: Tensor) -> tuple[Tensor, LatentFormat, Codec | None]:
        """(latent, its format, the codec that encoded it)"""
        latent_format = native_format(plan.settings.family)
        try:
            codec = self._codec_for(plan.settings.family)
            return codec.encode(image), latent_format, codec
        except TaesdError:
            if latent_format.rgb not in LATENT_RGB:
                raise
        sides = [math.ceil(side / latent_format.spatial_scale_factor) for side in image.shape[-2:]]
        small = torch.nn.functional.interpolate(image, size=sides, mode="area")
        # Such a latent has the right colours and nothing else of a real one, which is all that previewers know.
        made_up = replace(latent_format, name=f"colours of {latent_format.name}", family=None)
        return rgb_to_latent(small, latent_format.rgb), made_up, None
