"""A pretended generation: a picture is encoded, noised, and denoised again while a PreviewSession shows it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from PIL import Image, ImageOps
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import Detection, LatentFormat, native_format
from taesd_ext.models.latent_rgb import LATENT_RGB, rgb_to_latent
from taesd_ext.preview.frame import Frame, preview_image
from taesd_ext.preview.job import Stats
from taesd_ext.preview.latent_keeper import LatentKeeper
from taesd_ext.preview.recorder import Recorder
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings
from taesd_ext.ui.replay import replay

Timing = tuple[str, str]
"""(what, how long), in words for a table."""


@dataclass(frozen=True)
class Progress:
    """What the page shows after each step."""

    step: int
    steps: int
    frame: Frame | None
    stats: Stats
    timings: tuple[Timing, ...] = ()
    note: str = ""
    done: bool = False


@dataclass(frozen=True)
class Plan:
    """What to generate, and how long each step pretends to take."""

    picture: Image.Image
    size: int
    steps: int
    step_time: float
    settings: PreviewSettings
    title: str = ""
    seed: int = 0


class Kept:
    """What outlives a run: its previews, its latent, and the session, for what it cost."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.latents = LatentKeeper()
        self.session = PreviewSession(_no_codec)


def _no_codec(family: str) -> Codec:
    raise TaesdError(f"{family} is not loaded", "nothing was generated yet")


@dataclass
class _Latent:
    """A picture's latent and how it was come by."""

    latent: Tensor
    latent_format: LatentFormat
    codec: Codec | None
    timings: list[Timing] = field(default_factory=list)
    note: str = ""


def fitted(picture: Image.Image, longest: int) -> Image.Image:
    """The picture as RGB, turned as its camera says, with its longest side of so many pixels."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    scale = longest / max(picture.size)
    width, height = (max(8, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def generate(
    plan: Plan,
    codec_for: Callable[[str], Codec],
    sleep: Callable[[float], None] = time.sleep,
    keep: Kept | None = None,
) -> Iterator[Progress]:
    """Run the plan; one Progress a step, and a last one with the finished picture and the timings.

    Without weights for the family, the latent is the one whose linear preview looks like the picture; a family that
    has no linear preview raises its TaesdError.
    """
    keep = keep or Kept()
    picture = fitted(plan.picture, plan.size)
    start = _encode(picture_to_image(picture), plan.settings.family, codec_for)
    detection = Detection(start.latent_format, "chosen by hand")
    session = keep.session = PreviewSession(codec_for)
    session.start(plan.settings, plan.steps)
    keep.recorder.begin(plan.title, plan.steps)
    frame = None
    for step, latent in enumerate(replay(start.latent, plan.steps, plan.seed), 1):
        sleep(plan.step_time)
        session.step(step)
        frame = session.poll(latent, detection)
        keep.recorder.add(frame)
        yield Progress(step, plan.steps, frame, session.stats, note=start.note)
    session.finish()
    keep.latents.keep(start.latent, start.latent_format, title=plan.title, decoder=plan.settings.family)
    final = _finish(start, picture, frame)
    timings = (*start.timings, *_preview_timings(session.stats, plan), *final[1])
    yield Progress(plan.steps, plan.steps, final[0], session.stats, timings, start.note, done=True)


def _encode(image: Tensor, family: str, codec_for: Callable[[str], Codec]) -> _Latent:
    latent_format = native_format(family)
    began = time.perf_counter()
    try:
        codec = codec_for(family)
        latent = codec.encode(image)
    except TaesdError as error:
        if latent_format.rgb not in LATENT_RGB:
            raise
        note = f"{error} Until then this is the linear preview, which needs no file."
        factor = latent_format.spatial_scale_factor
        small = torch.nn.functional.interpolate(
            image, size=[math.ceil(side / factor) for side in image.shape[-2:]], mode="area"
        )
        # Such a latent has the right colours and nothing else of a real one, which is all that previewers know.
        made_up = replace(latent_format, name=f"colours of {latent_format.name}", family=None)
        return _Latent(rgb_to_latent(small, latent_format.rgb), made_up, None, note=note)
    took = time.perf_counter() - began
    return _Latent(latent, latent_format, codec, [("Encode", f"{1000 * took:.0f} ms")])


def _preview_timings(stats: Stats, plan: Plan) -> list[Timing]:
    if not stats.frames:
        return [("Previews", "none")]
    return [
        ("Previews", f"{stats.frames} in {plan.steps} steps, detail {stats.detail}"),
        ("One preview", f"{stats.milliseconds:.1f} ms"),
        ("All previews", f"{stats.seconds:.2f} s of {stats.elapsed:.1f} s ({100 * stats.share:.1f} %)"),
    ]


def _finish(start: _Latent, picture: Image.Image, frame: Frame | None) -> tuple[Frame | None, list[Timing]]:
    """The final decode at full detail, as the WebUI's "VAE type for decode: TAESD" does it."""
    if start.codec is None or not start.codec.has_decoder:
        return frame, []
    began = time.perf_counter()
    image = start.codec.decode(start.latent, size=(picture.height, picture.width))
    took = time.perf_counter() - began
    error = (image - picture_to_image(picture)).square().mean().clamp_min(1e-10)
    final = Frame(
        number=(frame.number if frame else 0) + 1,
        step=frame.step if frame else 0,
        image=preview_image(image),
        full_size=picture.size,
        detail="full",
        family=start.codec.name,
        milliseconds=1000 * took,
    )
    return final, [
        ("Final decode", f"{1000 * took:.0f} ms"),
        ("Against the picture", f"{-10 * math.log10(error):.1f} dB PSNR"),
    ]
