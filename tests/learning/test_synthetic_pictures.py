"""Synthetic pictures and latents: varied, in range, the same from the same seed."""

import pytest
import torch

from taesd_ext.codec.noise import power_law_latent, seeded
from taesd_ext.learning import lessons
from taesd_ext.learning.lessons import lesson_latents
from taesd_ext.learning.synthetic_pictures import leaves_latent, mixed_latent, picture

LATENTS = [power_law_latent, mixed_latent, leaves_latent]


def test_pictures_are_pictures() -> None:
    generator = seeded(0)
    pictures = torch.stack([picture(48, generator) for _ in range(30)])
    assert pictures.shape == (30, 3, 48, 48)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert torch.isfinite(pictures).all()
    means = pictures.mean(dim=(1, 2, 3))
    assert means.std() > 0.1, "pictures are all of one brightness"
    assert pictures.flatten(1).std(dim=1).median() > 0.05, "pictures are flat"


@pytest.mark.parametrize("make", LATENTS)
def test_latents_have_a_latents_size(make) -> None:
    generator = seeded(0)
    latents = torch.stack([make(16, 12, generator) for _ in range(20)])
    assert latents.shape == (20, 16, 12, 12)
    assert 0.3 < latents.std() < 1.6


@pytest.mark.parametrize("make", [*LATENTS, lambda channels, side, generator: picture(side, generator)])
def test_the_seed_decides_and_the_global_random_state_stays(make) -> None:
    before = torch.get_rng_state()
    first, again, other = (make(4, 24, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_lessons_are_a_mixture_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "LESSON_PIXELS", 32)
    decoded: list[tuple[int, ...]] = []
    encoded: list[tuple[int, ...]] = []

    def decoder(latent: torch.Tensor) -> torch.Tensor:
        decoded.append(tuple(latent.shape))
        return torch.rand(1, 3, 32, 32, generator=seeded(len(decoded)))

    def encoder(image: torch.Tensor) -> torch.Tensor:
        encoded.append(tuple(image.shape))
        return image.mean(dim=1, keepdim=True)[..., ::8, ::8].repeat(1, 4, 1, 1)

    latents = list(lesson_latents(decoder, encoder, 4, 8, 6, seed=0))
    assert {tuple(latent.shape) for latent in latents} == {(1, 4, 4, 4)}
    assert decoded == [(1, 4, 4, 4)] * 4, "two kinds of three are random latents put through the decoder"
    assert encoded == [(1, 3, 32, 32)] * 6
    without = list(lesson_latents(decoder, None, 4, 8, 3, seed=0))
    assert [tuple(latent.shape) for latent in without] == [(1, 4, 4, 4)] * 3
