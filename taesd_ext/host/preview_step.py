"""X/Y/Z plot's axis "Preview step": several moments of one sampling run as pictures."""

from typing import Any

import torch
from torch import Tensor

from taesd_ext.errors import TaesdError
from taesd_ext.host.history import History
from taesd_ext.host.webui import WebUI
from taesd_ext.settings import INFOTEXT_STEP

LABEL = "[TAESD] Preview step"

_WANTED = "taesd_ext_preview_step"
"""Attribute of the host's processing object: the step whose prediction becomes the picture."""

_SCALARS = (str, int, float, bool, type(None))


def want(processing: Any, step: int, _values: Any = None) -> None:
    """What the plot does for each picture."""
    setattr(processing, _WANTED, step)


def confirm(_processing: Any, steps: list[int]) -> None:
    for step in steps:
        if step < 1:
            raise RuntimeError(f"Preview steps count from 1: there is no step {step}.")


class PreviewStep:
    """Makes pictures of moments. Who samples the same again within one job of the host gets what is kept."""

    def __init__(self, host: WebUI, history: History) -> None:
        self._host = host
        self._history = history
        self._runs: dict[Any, int] = {}
        """What was sampled in the host's running job -> the history's number of it."""
        self._job: object = None

    def batch(self, processing: Any) -> None:
        """A batch is about to be sampled."""
        step, sample = getattr(processing, _WANTED, None), getattr(processing, "sample", None)
        if step is None or sample is None or getattr(sample, "of_preview_step", False):
            return

        def moment(*args: Any, **kwargs: Any) -> Tensor:
            return self._moment(processing, step, lambda: sample(*args, **kwargs))

        moment.of_preview_step = True
        processing.sample = moment

    def _moment(self, processing: Any, step: int, sample: Any) -> Tensor:
        if self._job != self._host.job():
            self._job, self._runs = self._host.job(), {}
        run = _everything_set(processing)
        latents, steps = self._kept(processing, self._runs.get(run), step)
        if latents is None and not step > steps > 0:
            sample()
            self._runs[run] = self._history.number_of(processing)
            latents, steps = self._kept(processing, self._runs[run], step)
        if latents is None:
            raise TaesdError(
                f"There is no step {step} to show", f"{steps} steps of this job are kept",
                "Choose another step, or let TAESD keep latents and give it more memory",
            )  # fmt: skip
        processing.extra_generation_params[INFOTEXT_STEP] = f"{step}/{steps}"
        return latents.to(self._host.device(), torch.float32)

    def _kept(self, processing: Any, run: int | None, step: int) -> tuple[Tensor | None, int]:
        """(B,C,h,w) latents of the running batch at its step, and how many steps a batch has."""
        moments = [kept for kept in self._history.moments(run) if kept.step] if run is not None else []
        if not moments:
            return None, 0
        steps = moments[0].steps // max(1, int(getattr(processing, "n_iter", 1) or 1))
        number = int(getattr(processing, "iteration", 0) or 0) * steps + step
        found = sorted((kept for kept in moments if kept.step == number), key=lambda kept: kept.picture)
        return torch.cat([kept.latent for kept in found]) if found and step <= steps else None, steps


def _everything_set(processing: Any) -> Any:
    """What tells one sampling run from another: all that is set for it in plain values."""
    plain = {name: value for name, value in vars(processing).items() if name != _WANTED and _is_plain(value)}
    return repr(sorted(plain.items())), repr(processing.override_settings)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):  # what is empty may be filled meanwhile, and copies of the object share it
        return bool(value) and all(isinstance(each, _SCALARS) for each in value)
    return isinstance(value, _SCALARS)
