"""A codec that decodes nothing, a clock that is set by hand, and sessions of them."""

from collections.abc import Iterable

import torch

from taesd_ext.latent_formats import BY_NAME, Detection, native_format
from taesd_ext.preview.frame import Frame
from taesd_ext.preview.session import PreviewSession
from taesd_ext.settings import DETAILS, PreviewSettings

SD1 = Detection(BY_NAME["sd1"], "test")


def settings(**given) -> PreviewSettings:
    """At full detail and without any limit, but for what is given."""
    return PreviewSettings(**{"min_time": 0, "budget": 0, "detail": "full", **given})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeCodec:
    """Counts its decodes; fails as told; ``cost`` is in seconds, of all details or by detail."""

    name = family = "taesd"
    format = native_format("taesd")
    spatial_scale_factor = 8
    device = torch.device("cpu")
    draws_films = False

    def __init__(self, clock: Clock | None = None, cost: float | dict[str, float] = 0.0, details=DETAILS) -> None:
        self.details = details
        self.clock, self.cost = clock, cost
        self.decoded: list[str] = []
        self.failing: dict[str, Exception | float] = {}

    def decode(self, latent, *, detail: str = "full"):
        self.decoded.append(detail)
        if self.clock:
            self.clock.now += self.cost[detail] if isinstance(self.cost, dict) else self.cost
        value = self.failing.get(detail, 0.5)
        if isinstance(value, Exception):
            raise value
        scale = {"full": 8, "1/2": 4, "1/4": 2, "1/8": 1}[detail]
        return torch.full((len(latent), 3, latent.shape[2] * scale, latent.shape[3] * scale), value)


def session_of(codec, clock, chosen: PreviewSettings | None = None, steps=20) -> PreviewSession:
    session = PreviewSession(lambda family: codec, clock)
    session.start(chosen or settings(), steps)
    return session


def polls(
    session: PreviewSession, numbers: Iterable[int], clock: Clock | None = None, seconds=0.0, steps: int | None = None
) -> list[Frame | None]:
    """What a poll gets after each of these steps, which take so many seconds, of ``steps`` in all."""
    shown = []
    for number in numbers:
        if clock:
            clock.now += seconds
        session.step(number, steps)
        shown.append(session.poll(latent(), SD1))
    return shown


def latent(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8)
