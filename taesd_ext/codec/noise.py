"""Seeded random latents with the spectra of pictures, the same on every machine.

In float32, whatever the default type is: hosts change that for all threads (Forge Neo while it upscales).
"""

import torch
from torch import Tensor

FALLOFFS = (0.0, 0.5, 1.0, 1.5)
"""Exponents of the amplitude spectra of random latents: amplitude ~ frequency ** -falloff."""

DEVIATIONS = (0.4, 0.8, 1.0, 1.2)
"""Standard deviations of the channels of random latents; 1 is a scaled latent's own."""


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU; the global random state stays as it is."""
    return torch.Generator().manual_seed(seed)


def pick(choices: tuple[float, ...], count: int, generator: torch.Generator) -> Tensor:
    """(count): choices at random."""
    return torch.tensor(choices, dtype=torch.float32)[torch.randint(0, len(choices), (count,), generator=generator)]


def power_law(channels: int, side: int, falloff: Tensor | float, generator: torch.Generator) -> Tensor:
    """(C,side,side) noise of unit deviation and zero mean per channel, amplitude ~ frequency ** -falloff."""
    white = torch.randn(channels, side, side, generator=generator, dtype=torch.float32)
    spectrum = torch.fft.rfft2(white)
    rows, columns = (frequencies(side, dtype=torch.float32) for frequencies in (torch.fft.fftfreq, torch.fft.rfftfreq))
    frequency = (rows[:, None].square() + columns.square()).sqrt().clamp_(min=1 / side)
    exponent = torch.as_tensor(falloff, dtype=torch.float32).reshape(-1, 1, 1)
    noise = torch.fft.irfft2(spectrum * frequency**-exponent, s=(side, side))
    noise -= noise.mean(dim=(1, 2), keepdim=True)
    return noise / noise.std(dim=(1, 2), keepdim=True).clamp_(min=1e-6)


def power_law_latent(channels: int, side: int, generator: torch.Generator) -> Tensor:
    """(C,side,side): each channel with its own spectrum and deviation."""
    falloff = pick(FALLOFFS, channels, generator)
    deviation = pick(DEVIATIONS, channels, generator)
    return power_law(channels, side, falloff, generator) * deviation[:, None, None]
