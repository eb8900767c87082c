"""How alike two images are."""

import torch
from torch import Tensor
from torch.nn import functional

_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
"""Window and constants of Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004, section III-C."""


def psnr(shown: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each of (B,3,H,W) images in [0,1] -> (B,). Equal images give infinity.

    What is shown beyond [0,1] counts as its end, and an image that holds NaN as wholly wrong.
    """
    error = (shown.double().clamp(0, 1) - wanted.double()).square().flatten(1).mean(1)
    return -10 * error.nan_to_num(nan=1.0).log10()


def in_words(decibels: Tensor) -> str:
    """Mean and worst."""
    return f"{decibels.mean():.2f} dB (worst {decibels.min():.2f})"


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each of (B,C,H,W) images in [0,1] -> (B,), 1 for equal ones; the mean over channels.

    A picture that is smaller than the 11 pixels of the window gets a smaller window.
    """
    channels = a.shape[1]
    window = min(_WINDOW, *a.shape[-2:])
    line = torch.arange(window, dtype=torch.float64, device=a.device) - (window - 1) / 2
    line = torch.exp(-line.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    kernel = torch.outer(line, line).expand(channels, 1, window, window).contiguous()

    def local_mean(x: Tensor) -> Tensor:
        return functional.conv2d(x, kernel, groups=channels)

    a, b = a.double(), b.double()
    mean_a, mean_b = local_mean(a), local_mean(b)
    variance_a = local_mean(a * a) - mean_a.square()
    variance_b = local_mean(b * b) - mean_b.square()
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = _K1**2, _K2**2
    brightness = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (brightness * structure).flatten(1).mean(1)
