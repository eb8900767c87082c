"""What each REST route does. What comes from outside names families, options and numbers, never a path."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import safetensors.torch
import torch
from fastapi import HTTPException, Query, Response

from taesd_ext.codec.latent_file import LATENT_SUFFIXES, latent_bytes
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import image_bytes, picture_bytes
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.host import api_models as models
from taesd_ext.host.api_models import MOST_PIXELS, bytes_of, image_of, latent_of, text_of
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS, native_format
from taesd_ext.preview.animation import AnimationPlan, animate
from taesd_ext.preview.recorded import KeptLatent, RecordedJob
from taesd_ext.settings import OPTION, OPTIONS
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.benchmark_tab import time_preview
from taesd_ext.ui.decoding import Decoded, decode_again, decoder_names
from taesd_ext.weights.installed import installed
from taesd_ext.weights.store import list_weights

Picture = Query(1, ge=1, description="of a job of several pictures, counted from 1")
Decoder = Query("", max_length=255, description="one of those in the list; none = the first")


@dataclass(frozen=True)
class Routes:
    """They do what the panel does, through the same actions; nothing is shown where pages belong to different people.

    ``previews()`` gives the fields of ``models.Status``.
    """

    actions: PanelActions
    previews: Callable[[], dict[str, Any]]

    def table(self) -> tuple:
        """(path, method, what answers, what the answer holds) of each."""
        return (
            ("/status", "GET", self.status, models.Status),
            ("/families", "GET", self.families, list[models.Family]),
            ("/files", "GET", self.files, list[models.File]),
            ("/error", "GET", self.error, models.LastError),
            ("/settings", "GET", self.settings, list[models.Setting]),
            ("/settings", "POST", self.change, models.Setting),
            ("/encode", "POST", self.encode, models.Latent),
            ("/decode", "POST", self.decode, models.Picture),
            ("/timeline", "GET", self.timeline, list[models.Job]),
            ("/timeline/{job}/frames/{number}", "GET", self.frame, None),
            ("/timeline/{job}/animation", "GET", self.animation, None),
            ("/timeline/{job}/moments", "GET", self.moments, list[models.Moment]),
            ("/timeline/{job}/moments/{step}/picture", "GET", self.full_picture, None),
            ("/timeline/{job}/moments/{step}/latent", "GET", self.latent, None),
            ("/timeline/{job}/moments/{step}/save", "POST", self.save, models.Saved),
            ("/benchmark", "POST", self.benchmark, list[models.Measured]),
        )

    def status(self) -> dict[str, Any]:
        """The previews of the running or last job: step, detail, what they cost."""
        return self.previews()

    def families(self) -> list[dict[str, Any]]:
        """Every family of tiny autoencoders, and which files serve it."""
        found, detection = installed(self.actions.codecs.folders()), self.actions.detection()
        in_use = detection and detection.family
        return [
            {
                "name": family,
                "titles": [row.title for row in LATENT_FORMATS if row.family == family],
                "latent_channels": native_format(family).latent_channels,
                "spatial_scale_factor": native_format(family).spatial_scale_factor,
                "in_use": in_use == family,
                "reason": detection.reason if in_use == family else "",
                **{part: path.name for part, path in found.get(family, {}).items()},
            }
            for family in FAMILIES
        ]

    def files(self) -> list[dict[str, Any]]:
        """The weight files in the folders that are searched."""
        return [
            {
                "name": found.path.name,
                "families": found.families,
                "parts": found.official.parts if found.official else found.parts,
                "state": found.state,
                "version": found.official and found.official.version,
                "licence": found.official and found.official.licence,
                "size": found.size,
                "error": found.error.replace(str(found.path), found.path.name),
            }
            for found in list_weights(self.actions.codecs.folders())
        ]

    def error(self) -> dict[str, Any]:
        """What went wrong last with a preview."""
        return {"error": self.actions.last_error()}

    def settings(self) -> list[dict[str, Any]]:
        """Every option with its value now."""
        return [self._setting(option.name) for option in OPTIONS]

    def change(self, change: models.Change) -> dict[str, Any]:
        """Set one option; it takes effect at once and is saved."""
        if change.name not in OPTION:
            raise HTTPException(404, f"There is no option {change.name!r}")
        if not self.actions.allowed_to_change():
            raise HTTPException(403, "This WebUI is open to others, who may not change its settings")
        try:
            self.actions.write_setting(change.name, change.value)
        except ValueError as error:
            raise HTTPException(422, f"{change.name}: {error}") from error
        return self._setting(change.name)

    def _setting(self, name: str) -> dict[str, Any]:
        option, names = OPTION[name], self.actions.names
        choices = names[name]() if name in names else option.choices
        value = self.actions.read_settings()[name]
        return {**vars(option), "key": option.key, "value": value, "choices": choices}

    def encode(self, request: models.EncodeRequest) -> dict[str, Any]:
        """A picture to a latent."""
        suffix = f".{request.format}"
        if suffix not in LATENT_SUFFIXES:
            raise HTTPException(422, f"format is one of {', '.join(known[1:] for known in LATENT_SUFFIXES)}")
        image = image_of(bytes_of(request.image))
        with self.actions.codecs.exclusive():
            codec = self._codec(request.family)
            latent = codec.encode(image)
        height, width = image.shape[-2:]
        data = latent_bytes(suffix, latent.cpu(), note_for(latent, codec.family, codec.format, (height, width)))
        return {"latent": text_of(data), "family": codec.family, "width": width, "height": height}

    def decode(self, request: models.DecodeRequest) -> dict[str, Any]:
        """A latent to a picture."""
        latent, note = latent_of(bytes_of(request.latent), request.family)
        if note.width * note.height > MOST_PIXELS:
            raise HTTPException(413, f"{note.width}x{note.height} is more than {MOST_PIXELS:,} pixels")
        with self.actions.codecs.exclusive():
            codec = self._codec(request.family or note.family)
            image = codec.decode(latent, size=note.size)
        data = image_bytes(".png", image)
        return {"image": text_of(data), "family": codec.family, "width": note.width, "height": note.height}

    def benchmark(self, request: models.BenchmarkRequest) -> list[dict[str, Any]]:
        """Time of a preview at each detail, while no generation runs."""
        measured = []
        with self.actions.codecs.exclusive():
            codec = self._codec(request.family)
            for detail in codec.details:
                milliseconds, (width, height) = time_preview(codec, request.side, detail, request.runs)
                measured.append({"detail": detail, "milliseconds": milliseconds, "width": width, "height": height})
        return measured

    def _codec(self, family: str) -> Any:
        if family not in FAMILIES:
            raise HTTPException(422, f"family is one of {', '.join(FAMILIES)}")
        return self.actions.codecs.load(family)

    # The last jobs

    def timeline(self) -> list[dict[str, Any]]:
        """The last jobs whose previews are kept, newest first."""
        return [
            {
                "id": job.id, "title": job.title, "steps": job.steps, "started": job.started, "size": job.size,
                "inner": job.inner,
                "frames": [
                    {**vars(frame), "width": frame.full_size[0], "height": frame.full_size[1]} for frame in job.frames
                ],
            }
            for job in self.actions.jobs()
        ]  # fmt: skip

    def frame(self, job: int, number: int) -> Response:
        """One preview, as it was shown."""
        for frame in self._job(job).frames:
            if frame.number == number:
                return Response(frame.image.data, media_type=f"image/{frame.image.wire_format}")
        raise HTTPException(404, f"Preview {number} of job {job} is not kept")

    def animation(
        self,
        job: int,
        kind: str = Query("webp", max_length=8, description="webp or gif"),
        length: float = Query(4.0, description="seconds"),
        hold: float = Query(1.5, description="seconds for which the last frame stays"),
        side: int = Query(512, description="longest side in pixels"),
    ) -> Response:
        """A job's previews as a film."""
        plan = AnimationPlan(kind, length, hold, side)
        return Response(animate(self._job(job).frames, plan), media_type=f"image/{kind}")

    def moments(self, job: int) -> list[dict[str, Any]]:
        """What is kept of a job, newest first; the step of a finished picture is 0."""
        return [self._listed(kept) for kept in self.actions.moments(job)]

    def _listed(self, kept: KeptLatent) -> dict[str, Any]:
        factor = kept.latent_format.spatial_scale_factor if kept.latent_format else 8
        height, width = (side * factor for side in kept.latent.shape[-2:])
        decoders = decoder_names(self.actions.codecs, kept)
        return {
            "step": kept.step or 0, "picture": kept.picture, "width": width, "height": height, "decoders": decoders
        }  # fmt: skip

    def full_picture(self, job: int, step: int, picture: int = Picture, decoder: str = Decoder) -> Response:
        """A moment decoded in full, as PNG; waits for its turn with what is generated."""
        return Response(picture_bytes(self._decoded(job, step, picture, decoder).picture), media_type="image/png")

    def latent(self, job: int, step: int, picture: int = Picture) -> Response:
        """A moment's (1,C,h,w) latent as the sampler held it, as safetensors: finished exactly, else in half."""
        kept = self._moment(job, step, picture)
        about = {"format": kept.latent_format.name} if kept.latent_format else None
        data = safetensors.torch.save({"latent": kept.latent.contiguous()}, about)
        return Response(data, media_type="application/octet-stream")

    def save(self, job: int, step: int, picture: int = Picture, decoder: str = Decoder) -> dict[str, Any]:
        """Decode a moment in full and save it as the WebUI saves, with its parameters and the step."""
        decoded = self._decoded(job, step, picture, decoder)
        return {"file": self.actions.save_picture(decoded.picture, decoded.kept, decoded.codec).name}

    def _decoded(self, job: int, step: int, picture: int, decoder: str) -> Decoded:
        kept = self._moment(job, step, picture)
        names = decoder_names(self.actions.codecs, kept)
        if not names:
            raise HTTPException(409, "No decoder is installed for this picture's model")
        return decode_again(self.actions.codecs, kept, decoder or names[0])

    def _moment(self, job: int, step: int, picture: int) -> KeptLatent:
        for kept in self.actions.moments(job):
            if (kept.step or 0, kept.picture) == (step, picture):
                return kept
        raise HTTPException(404, f"Step {step} of picture {picture} of job {job} is not kept")

    def _job(self, number: int) -> RecordedJob:
        for job in self.actions.jobs():
            if job.id == number:
                return job
        raise HTTPException(404, f"Job {number} is not kept")


def answering(route: Callable[..., Any]) -> Callable[..., Any]:
    """What we refuse is the asker's mistake (400) with its cure; a full memory is 503. Nothing becomes a 500."""

    @wraps(route)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return route(*args, **kwargs)
        except TaesdError as error:
            raise HTTPException(400, str(error)) from error
        except (MemoryError, torch.cuda.OutOfMemoryError) as error:
            raise HTTPException(503, one_line(error)) from error

    return answer
