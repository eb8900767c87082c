"""What the host finishes itself teaches the previews of models that nobody knows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from taesd_ext.codec.noise import seeded
from taesd_ext.host.learnt_previews import MOST_CHANNELS, LearntPreviews
from taesd_ext.latent_formats import ModelEvidence
from taesd_ext.learning.synthetic_pictures import picture


class Host:
    def __init__(self, latent_format: str | None = "Invented", **more) -> None:
        self.known = {"latent_format": latent_format, **more}

    def evidence(self, shape: tuple[int, ...]) -> ModelEvidence:
        return ModelEvidence(channels=shape[1], **self.known)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def job(seed: int, channels: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A latent and the picture that the host decodes from it, in [-1,1]."""
    image = picture(128, seeded(seed))[None]
    parts = functional.pixel_unshuffle(functional.avg_pool2d(image, 4), 2)
    return parts.repeat(1, -(-channels // 12), 1, 1)[:, :channels], image * 2 - 1


def test_the_second_job_is_drawn_by_what_the_first_one_taught():
    learnt, (latent, image), (next_latent, next_image) = LearntPreviews(Host()), job(0), job(1)
    assert learnt.find(tuple(latent.shape)) is None
    with torch.inference_mode():
        learnt.finished(latent.clone(), image.clone())
    shown = learnt.find(tuple(next_latent.shape)).preview(next_latent)
    wanted = functional.avg_pool2d(next_image / 2 + 0.5, 4)
    assert (shown - wanted).square().mean() < (wanted - wanted.mean()).square().mean() / 4
    assert LearntPreviews(Host("Another")).find(tuple(latent.shape)) is None


@pytest.mark.parametrize(
    ("host", "channels"),
    [(Host(None, flags=frozenset({"is_sd1"})), 4), (Host("SDXL"), 4), (Host(), MOST_CHANNELS + 1)],
)
def test_nothing_is_learnt_where_it_is_not_needed_or_too_dear(host, channels):
    learnt, (latent, image) = LearntPreviews(host), job(0, channels)
    learnt.finished(latent, image)
    assert learnt.find(tuple(latent.shape)) is None


def test_trouble_never_reaches_the_job(monkeypatch):
    learnt = LearntPreviews(Host())
    monkeypatch.setattr(learnt._pictures, "add", lambda *_: 1 / 0)
    learnt.finished(*job(0))
