"""REST routes of a job's moments: its steps and finished pictures, decoded in full, saved, as latents."""

from __future__ import annotations

import safetensors.torch
from fastapi import HTTPException, Query, Response

from taesd_ext.host import api_models as models
from taesd_ext.preview.recorded import KeptLatent
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.decoding import Decoded, decode_again, decoder_names
from taesd_ext.ui.pictures import picture_bytes

Picture = Query(1, ge=1, description="of a job of several pictures, counted from 1")
Decoder = Query("", max_length=255, description="one of those in the list; none = the first")


class Moments:
    """The routes; none shows anything where pages belong to different people."""

    def __init__(self, actions: PanelActions) -> None:
        self._actions = actions

    def table(self) -> tuple:
        return (
            ("/timeline/{job}/moments", "GET", self.moments, list[models.Moment]),
            ("/timeline/{job}/moments/{step}/picture", "GET", self.full_picture, None),
            ("/timeline/{job}/moments/{step}/latent", "GET", self.latent, None),
            ("/timeline/{job}/moments/{step}/save", "POST", self.save, models.Saved),
        )

    def moments(self, job: int) -> list[models.Moment]:
        """What is kept of a job, newest first; the step of a finished picture is 0."""
        return [self._listed(kept) for kept in self._kept(job)]

    def _listed(self, kept: KeptLatent) -> models.Moment:
        factor = kept.latent_format.spatial_scale_factor if kept.latent_format else 8
        height, width = (side * factor for side in kept.latent.shape[-2:])
        return models.Moment(
            step=kept.step or 0, picture=kept.picture, width=width, height=height,
            decoders=decoder_names(self._actions, kept),
        )  # fmt: skip

    def full_picture(self, job: int, step: int, picture: int = Picture, decoder: str = Decoder) -> Response:
        """A moment decoded in full, as PNG; waits for its turn with what is generated."""
        decoded = self._decoded(job, step, picture, decoder)
        return Response(picture_bytes(decoded.picture), media_type="image/png")

    def latent(self, job: int, step: int, picture: int = Picture) -> Response:
        """A moment's (1,C,h,w) latent as the sampler held it, as safetensors: finished exactly, else in half."""
        kept = self._moment(job, step, picture)
        about = {"format": kept.latent_format.name} if kept.latent_format else None
        data = safetensors.torch.save({"latent": kept.latent.contiguous()}, about)
        return Response(data, media_type="application/octet-stream")

    def save(self, job: int, step: int, picture: int = Picture, decoder: str = Decoder) -> models.Saved:
        """Decode a moment in full and save it as the WebUI saves, with its parameters and the step."""
        decoded = self._decoded(job, step, picture, decoder)
        return models.Saved(file=self._actions.save_picture(decoded.picture, decoded.kept, decoded.codec).name)

    def _decoded(self, job: int, step: int, picture: int, decoder: str) -> Decoded:
        kept = self._moment(job, step, picture)
        names = decoder_names(self._actions, kept)
        if not names:
            raise HTTPException(409, "No decoder is installed for this picture's model")
        return decode_again(self._actions, kept, decoder or names[0])

    def _moment(self, job: int, step: int, picture: int) -> KeptLatent:
        for kept in self._kept(job):
            if (kept.step or 0, kept.picture) == (step, picture):
                return kept
        raise HTTPException(404, f"Step {step} of picture {picture} of job {job} is not kept")

    def _kept(self, job: int) -> list[KeptLatent]:
        return self._actions.moments(job)
