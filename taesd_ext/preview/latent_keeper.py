"""The finished latents of the last jobs, on the CPU and within a bound, so that they can be decoded once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from taesd_ext.latent_formats import LatentFormat
from taesd_ext.preview.bounded import DEFAULT_LIMIT, BoundedStore


@dataclass(frozen=True)
class KeptLatent:
    """One finished picture's latent, before it was decoded."""

    id: int
    job: int
    """The job that made it, as the recorder counts them; 0 = none known."""
    latent: Tensor
    """(1,C,h,w), on the CPU, in the dtype that the sampler had."""
    latent_format: LatentFormat | None
    title: str
    """For people: the prompt's beginning, or the like."""
    decoder: str
    """What decoded it the first time."""
    infotext: str = ""
    """The generation parameters as they were saved with the picture."""
    kept_at: float = 0.0
    """Seconds since the epoch."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the host needs to save it again."""

    @property
    def size(self) -> int:
        return self.latent.numel() * self.latent.element_size()


class LatentKeeper(BoundedStore):
    """Keeps the last latents; when there are too many bytes, the oldest goes."""

    def __init__(self, limit: int = DEFAULT_LIMIT, clock: Callable[[], float] = time.time) -> None:
        super().__init__(limit, clock)
        self._kept: list[KeptLatent] = []

    def keep(
        self, latent: Tensor, latent_format: LatentFormat | None, *, title: str = "", decoder: str = "",
        infotext: str = "", extra: Mapping[str, Any] | None = None, job: int = 0,
    ) -> list[int]:  # fmt: skip
        """Copy a (B,C,h,w) latent, one entry for each picture of the batch; gives the entries' ids.

        A latent that holds NaN or Inf is no finished picture's: it gets an id and is not kept.
        """
        if not self._enabled:
            return []
        copies = [part.detach().to("cpu", copy=True) for part in latent.split(1)]
        with self._lock:
            ids = [next(self._ids) for _ in copies]
            now, extra = self._clock(), dict(extra or {})
            self._kept += [
                KeptLatent(new_id, job, copy, latent_format, title, decoder, infotext, now, extra)
                for new_id, copy in zip(ids, copies, strict=True)
                if copy.isfinite().all()
            ]
            while self._kept and sum(kept.size for kept in self._kept) > self._limit:
                del self._kept[0]
        return ids

    def note(self, kept_id: int, **known: Any) -> None:
        """Add what became known later, such as the infotext, to an entry; it may be gone already."""
        with self._lock:
            self._kept = [replace(kept, **known) if kept.id == kept_id else kept for kept in self._kept]

    def kept(self) -> list[KeptLatent]:
        """Newest first."""
        with self._lock:
            return self._kept[::-1]

    def get(self, kept_id: int) -> KeptLatent | None:
        with self._lock:
            return next((kept for kept in self._kept if kept.id == kept_id), None)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
