"""The replayed run goes from noise to the picture, as a real one does."""

from __future__ import annotations

import pytest
import torch

from taesd_ext.ui.replay import noise_levels, replay


def smooth_latent(height: int = 24, width: int = 32) -> torch.Tensor:
    rows = torch.linspace(0, 6, height)[:, None]
    columns = torch.linspace(0, 9, width)[None, :]
    return torch.stack([torch.sin(rows + shift) * torch.cos(columns * 0.7) * 2 for shift in range(4)])[None]


def test_noise_falls_from_the_models_largest_to_its_smallest():
    levels = noise_levels(12)

    assert levels[0] == pytest.approx(14.6146)
    assert levels[-1] == pytest.approx(0.0292)
    assert levels == sorted(levels, reverse=True)
    assert noise_levels(1) == pytest.approx([14.6146])


@pytest.mark.parametrize("shape", [(24, 32), (17, 9), (8, 8)])
def test_the_last_prediction_is_the_latent_and_each_is_nearer_than_early_ones(shape):
    latent = smooth_latent(*shape)
    errors = [float((predicted - latent).square().mean()) for predicted in replay(latent, 16)]

    assert errors[-1] < 1e-3 * float(latent.square().mean())
    assert errors[0] > errors[8] > errors[-1]


def test_the_latent_and_the_random_state_stay_as_they_are():
    latent = smooth_latent()
    kept, state = latent.clone(), torch.get_rng_state()
    list(replay(latent, 5))

    assert torch.equal(latent, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_gives_the_same_run():
    first, again, other = (list(replay(smooth_latent(), 4, seed)) for seed in (1, 1, 2))

    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
