"""The last jobs' previews and latents of a WebUI, for its TAESD tab."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from taesd_ext.host.webui import DECODE_METHOD, WebUI
from taesd_ext.latent_formats import Detection
from taesd_ext.preview.latent_keeper import LatentKeeper
from taesd_ext.preview.recorder import Recorder

_TITLE_LENGTH = 80
_IDS = "taesd_ext_latents"
"""Attribute of the host's processing object: which latents are its own. The object cannot be hashed."""


class History:
    """Memory of what was generated. Nothing here may raise into a generation: the callers see to that."""

    def __init__(self, host: WebUI) -> None:
        self._host = host
        self.recorder = Recorder()
        self.latents = LatentKeeper()
        self._job = 0

    def begin(self, processing: Any, steps: int, *, timeline: bool, latents: bool) -> None:
        """A job begins; the two switches are options."""
        if self.recorder.enabled != timeline:
            self.recorder.enabled = timeline
        if self.latents.enabled != latents:
            self.latents.enabled = latents
        self._job = self.recorder.begin(_title(processing), steps)
        _set_ids(processing, [])

    def finished(self, processing: Any, samples: Any, detection: Detection) -> None:
        """A batch is sampled: (B,C,h,w) latents, about to be decoded."""
        # After hires fix by an image upscaler the host has pictures here, in a list of its own.
        if not isinstance(samples, Tensor) or getattr(samples, "already_decoded", False):
            return
        decoder = str(getattr(processing, "sd_vae_decode_method", None) or self._host.option(DECODE_METHOD, "Full"))
        tab = "img2img" if hasattr(processing, "init_images") else "txt2img"
        extra = {"tab": tab, "prompt": str(getattr(processing, "prompt", ""))}
        ids = self.latents.keep(
            samples, detection.format, title=_title(processing), decoder=decoder, extra=extra, job=self._job
        )
        _set_ids(processing, [*getattr(processing, _IDS, []), *ids])

    def saved(self, processing: Any, processed: Any) -> None:
        """The job is done: its pictures' parameters are known, in the order of its latents."""
        self.recorder.finish()
        first = int(getattr(processed, "index_of_first_image", 0) or 0)
        infotexts = list(getattr(processed, "infotexts", None) or [])[first:]
        seeds = list(getattr(processed, "all_seeds", None) or [])
        for place, kept_id in enumerate(getattr(processing, _IDS, [])):
            kept = self.latents.get(kept_id)
            if kept is None:
                continue
            seed = seeds[place] if place < len(seeds) else None
            infotext = infotexts[place] if place < len(infotexts) else ""
            self.latents.note(kept_id, infotext=str(infotext), extra={**kept.extra, "seed": seed})
        _set_ids(processing, [])


def _set_ids(processing: Any, ids: list[int]) -> None:
    """A new list each time: copies of the object share the one before. A script may run the same object again."""
    if processing is not None:
        setattr(processing, _IDS, ids)


def _title(processing: Any) -> str:
    prompt = getattr(processing, "prompt", "")
    prompt = prompt[0] if isinstance(prompt, list) and prompt else prompt
    return " ".join(str(prompt or "").split())[:_TITLE_LENGTH]
