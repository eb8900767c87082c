"""How good what was learnt is."""

from torch import Tensor


def psnr(shown: Tensor, wanted: Tensor) -> Tensor:
    """(N) dB of (N,3,H,W) pictures in [0,1]; whatever holds NaN counts as wholly wrong."""
    error = (shown.float().clamp(0, 1) - wanted.float()).square().mean(dim=(1, 2, 3)).nan_to_num(nan=1.0)
    return -10 * error.clamp_min(1e-12).log10()


def in_words(decibels: Tensor) -> str:
    """Mean and worst."""
    return f"{decibels.mean():.2f} dB (worst {decibels.min():.2f})"
