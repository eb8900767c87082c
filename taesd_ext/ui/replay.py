"""A denoising run without a diffusion model: a known picture's latent, seen through less and less noise.

A sampler at noise level sigma holds ``x = latent + sigma * noise`` and its network predicts the clean latent from it.
The best linear prediction is Wiener's filter: each frequency is kept as far as the picture's power there exceeds the
noise's. It shows what a real run shows: blotches of colour first, then shapes, then detail.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# The noise levels of Stable Diffusion 1 on the schedule of Karras et al. 2022 (rho = 7).
_SIGMA_MAX, _SIGMA_MIN, _RHO = 14.6146, 0.0292, 7.0


def noise_levels(steps: int) -> list[float]:
    """``steps`` falling sigmas."""
    ends = (_SIGMA_MAX ** (1 / _RHO), _SIGMA_MIN ** (1 / _RHO))
    return [float((ends[0] + (ends[1] - ends[0]) * i / max(steps - 1, 1)) ** _RHO) for i in range(steps)]


def replay(latent: Tensor, steps: int, seed: int = 0) -> Iterator[Tensor]:
    """The predicted clean latent of each step, from noise to (nearly) ``latent``; (B,C,h,w) each, float32.

    The global random state is left alone.
    """
    latent = latent.float()
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent.device)
    picture_power = _ring_power(latent)
    positions = latent.shape[-2] * latent.shape[-1]
    for sigma in noise_levels(steps):
        kept = picture_power / (picture_power + sigma**2 * positions)
        seen = torch.fft.rfft2(latent + sigma * noise)
        yield torch.fft.irfft2(seen * kept, s=latent.shape[-2:])


def _ring_power(latent: Tensor) -> Tensor:
    """|FFT|^2 averaged over rings of equal frequency, (B,C,h,w//2+1): the picture's spectrum without its phases."""
    power = torch.fft.rfft2(latent).abs().square()
    rows = torch.fft.fftfreq(latent.shape[-2], device=latent.device)[:, None]
    columns = torch.fft.rfftfreq(latent.shape[-1], device=latent.device)[None, :]
    frequency = (rows.square() + columns.square()).sqrt()
    ring = (frequency * max(latent.shape[-2:])).round().long().flatten()
    sums = torch.zeros(*power.shape[:2], int(ring.max()) + 1, device=latent.device)
    sums.index_add_(2, ring, power.flatten(2))
    counts = torch.bincount(ring).clamp_min(1)
    return (sums / counts)[:, :, ring].view_as(power)
