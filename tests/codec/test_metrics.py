"""The measures against the formulas written out, window by window."""

import math

import numpy as np
import pytest
import torch

from taesd_ext.codec.metrics import psnr, ssim


def ssim_written_out(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """(C,H,W) arrays; each window by itself."""
    line = np.exp(-((np.arange(window) - (window - 1) / 2) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line)
    weights /= weights.sum()
    values = []
    for x, y in zip(a, b, strict=True):
        for top in range(x.shape[0] - window + 1):
            for left in range(x.shape[1] - window + 1):
                p, q = (z[top : top + window, left : left + window] for z in (x, y))
                mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
                var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
                both = (weights * (p - mean_p) * (q - mean_q)).sum()
                c1, c2 = 0.01**2, 0.03**2
                over = (2 * mean_p * mean_q + c1) * (2 * both + c2)
                values.append(over / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2)))
    return float(np.mean(values))


def images(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, height, width, generator=generator)
    return a, (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    b = a + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert psnr(a, b).tolist() == pytest.approx([20.0, 40.0], abs=1e-5)
    assert psnr(a, a).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(("size", "window"), [((20, 17), 11), ((5, 30), 5)])
def test_ssim_by_hand(size, window):
    a, b = images(*size)
    expected = [ssim_written_out(x.double().numpy(), y.double().numpy(), window) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a).tolist() == pytest.approx([1, 1], abs=1e-12)
