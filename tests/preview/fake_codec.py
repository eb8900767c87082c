"""A codec that decodes nothing, a clock that is set by hand, and sessions of them."""

from __future__ import annotations

import torch

from taesd_ext.latent_formats import BY_NAME, Detection, native_format
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import PreviewSettings

SD1 = Detection(BY_NAME["sd1"], "test")
QUICK = PreviewSettings(min_time=0, budget=0, detail="full")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeCodec:
    """Counts its decodes; fails as told."""

    def __init__(
        self, clock: Clock | None = None, cost: float | dict[str, float] = 0.0, details=("full", "1/2", "1/4", "1/8")
    ) -> None:
        self.name = self.family = "taesd"
        self.format = native_format("taesd")
        self.spatial_scale_factor = 8
        self.details = details
        self.clock, self.cost = clock, cost
        self.device = torch.device("cpu")
        self.decoded: list[str] = []
        self.failing: dict[str, Exception | float] = {}

    def decode(self, latent, *, detail: str = "full"):
        self.decoded.append(detail)
        if self.clock:
            self.clock.now += self.cost[detail] if isinstance(self.cost, dict) else self.cost
        failure = self.failing.get(detail)
        if isinstance(failure, Exception):
            raise failure
        scale = 8 // {"full": 1, "1/2": 2, "1/4": 4, "1/8": 8}[detail]
        value = failure if failure is not None else 0.5
        return torch.full((len(latent), 3, latent.shape[2] * scale, latent.shape[3] * scale), value)


def session_of(codec, clock, settings=QUICK, steps=20) -> PreviewSession:
    session = PreviewSession(lambda family: codec, clock)
    session.start(settings, steps)
    return session


def run_steps(session: PreviewSession, clock: Clock, steps: range, seconds: float) -> None:
    """Steps of so many seconds each, with somebody who asks after each."""
    for step in steps:
        clock.now += seconds
        session.step(step)
        session.poll(latent(), SD1)


def latent(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8)
