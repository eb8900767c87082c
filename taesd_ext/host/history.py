"""The last jobs' previews and latents of a WebUI, for its TAESD tab."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

from torch import Tensor

from taesd_ext.errors import log_once, one_line
from taesd_ext.host.generation import Generations
from taesd_ext.host.webui import DECODE_METHOD, WebUI
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.preview.latent_copies import LatentCopies
from taesd_ext.preview.recorded import KeptLatent

_TITLE_LENGTH = 80
_RUN = "taesd_ext_run"
"""Attribute of the host's processing object, which cannot be hashed: what is known of its run."""


@dataclass
class _Run:
    job: int
    finished: int = 0
    """Finished latents of the batches before."""
    decoded: int = 0
    """Pictures of this batch that were decoded since its last step."""
    sampled: bool = False
    """Whether this batch had a step."""
    unfinished: bool = False
    """Whether more steps were to follow the last."""


class History:
    """Memory of what was generated. ``setting(name)`` gives an option's value now."""

    def __init__(self, host: WebUI, generations: Generations, setting: Callable[[str], Any]) -> None:
        self._host = host
        self._generations = generations
        self._setting = setting
        self._copies = LatentCopies()
        self._run = _Run(0)
        self.jobs = JobHistory()

    def begin(self, steps: int) -> None:
        """A job begins; one inside another works on its picture."""
        own = self._host.allows_changes()  # else pages belong to different people: nothing of theirs is kept
        self.jobs.keep(
            frames=own and self._setting("timeline"),
            latents=own and self._setting("keep_latents"),
            limit=self._setting("history_size") * 2**20,
        )
        processing = self._generations.processing
        decoder = getattr(processing, "sd_vae_decode_method", None) or self._host.option(DECODE_METHOD, "Full")
        extra = {
            "tab": tab_of(processing),
            "prompt": str(getattr(processing, "prompt", "")),
        }
        inner = self._generations.nested
        number = self.jobs.begin(_title(processing), steps, inner=inner, decoder=str(decoder), extra=extra)
        self._run = _Run(number)
        if processing is not None:  # copies of the object share its attributes, and a script may run it again
            setattr(processing, _RUN, self._run)

    def batch(self, processing: Any) -> None:
        """A batch is about to be sampled."""
        run = self._run_of(processing)
        run.finished, run.decoded, run.sampled = self.jobs.finished_count(run.job), 0, False

    def step(self, latents: Tensor | None, step: tuple[int, int], progress: tuple[int, int]) -> None:
        """A step is done; ``latents`` (B,C,h,w) are what was predicted.

        ``step`` and ``progress`` are (done, in all), of this pass and of the whole job; a pass may begin with 0.
        """
        processing = self._generations.processing
        run = self._run_of(processing)
        size = int(getattr(processing, "batch_size", 1) or 1)
        first = int(getattr(processing, "iteration", 0) or 0) * size
        if not run.sampled and processing is not None and self.jobs.keeps_latents:
            # Of a job that breaks off nobody tells us more.
            seeds = [*(getattr(processing, "all_seeds", None) or ())][first:]
            texts = [self._host.parameters(processing, place) for place in range(first, first + size)]
            self.jobs.expect(run.job, first, [*zip_longest(texts, seeds[:size])])
        run.sampled, run.unfinished = True, step[0] < step[1]
        if run.decoded:  # that was a look at them, or hires fix
            run.decoded = 0
            self.jobs.reopen(run.job, run.finished)
        if not self.jobs.keeps_latents or latents is None or latents.ndim != 4 or not step[0]:
            return
        latent_format = self._host.detection(tuple(latents.shape)).format
        add = partial(self.jobs.add_latents, run.job, *progress, latent_format=latent_format, first=first)
        self._copies.take(latents, add)

    def decoding(self, samples: Tensor) -> Tensor:
        """Final latents, (B,C,h,w), are to be decoded: what is decoded instead, after it was kept. Never raises.

        Of a job that was broken off it is the prediction, where that is wanted.
        """
        generation = self._generations.current
        if generation and generation.open and self._generations.in_sampling_thread():
            processing = generation.processing()
            try:
                if self._host.broken_off() and self._setting("interrupted"):
                    samples = self._predicted(processing, samples)
                self._finished(processing, samples)
            except Exception as error:
                log_once(f"history {one_line(error)}", one_line(error))
        return samples

    def number_of(self, processing: Any) -> int:
        """The number of the run of this object."""
        return self._run_of(processing).job

    def moments(self, job: int) -> list[KeptLatent]:
        """All that is kept of a job, newest first."""
        self._copies.settle()
        return self.jobs.moments(job)

    def frame(self, frame: Frame) -> None:
        """A preview was shown."""
        self._copies.settle()
        self.jobs.add_frame(self._run_of(self._generations.processing).job, frame)

    def saved(self, processing: Any, processed: Any) -> int:
        """The job is done: its pictures' parameters are known, in their order. Gives its number."""
        self._copies.settle()
        first = int(getattr(processed, "index_of_first_image", 0) or 0)
        infotexts = list(getattr(processed, "infotexts", None) or [])[first:]
        seeds = list(getattr(processed, "all_seeds", None) or [])
        job = self.number_of(processing)
        self.jobs.finish(job, infotexts, seeds)
        return job

    def _predicted(self, processing: Any, samples: Tensor) -> Tensor:
        """What the preview showed of a batch whose sampling broke off; else the samples themselves."""
        run, seen = self._run_of(processing), self._host.state.current_latent
        if not (run.sampled and run.unfinished) or seen is None:
            return samples
        shown = seen[run.decoded : run.decoded + len(samples)]
        if shown.shape != samples.shape:
            return samples
        return shown.detach().half().to(samples)  # as it is kept

    def _finished(self, processing: Any, samples: Tensor) -> None:
        """The job's next pictures, unless a step follows."""
        run = self._run_of(processing)
        if run.sampled:
            run.decoded += len(samples)
            latent_format = self._host.detection(tuple(samples.shape)).format
            self.jobs.add_finished(
                run.job, samples, latent_format, run.finished, getattr(processing, "batch_size", None)
            )

    def _run_of(self, processing: Any) -> _Run:
        return getattr(processing, _RUN, self._run)


def tab_of(processing: Any) -> str:
    """The page's tab that such a generation belongs to."""
    return "img2img" if hasattr(processing, "init_images") else "txt2img"


def _title(processing: Any) -> str:
    prompt = getattr(processing, "prompt", "")
    prompt = prompt[0] if isinstance(prompt, list) and prompt else prompt
    return " ".join(str(prompt or "").split())[:_TITLE_LENGTH]
