"""Convolutions solved in closed form."""

import torch
from torch import nn

from taesd_ext.codec.noise import seeded
from taesd_ext.learning.ridge import ConvolutionFit


def _fitted(conv: nn.Conv2d, pictures: int, penalty: float, within=(slice(None), slice(None))) -> nn.Conv2d:
    generator = seeded(0)
    fit = ConvolutionFit(conv.in_channels, conv.out_channels)
    for _ in range(pictures):
        features = torch.randn(1, conv.in_channels, 12, 10, generator=generator)
        fit.add(features, conv(features), generator, within=within)
    return fit.solve(penalty)


@torch.no_grad()
def test_finds_the_convolution_that_made_the_targets() -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 3, 3, padding=1)
    found = _fitted(conv, 8, penalty=1e-9)
    assert torch.allclose(found.weight, conv.weight, atol=1e-5)
    assert torch.allclose(found.bias, conv.bias, atol=1e-5)


@torch.no_grad()
def test_positions_outside_are_not_looked_at() -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 1, 3, padding=1)
    generator = seeded(0)
    fit = ConvolutionFit(2, 1)
    for _ in range(8):
        features = torch.randn(1, 2, 12, 10, generator=generator)
        target = conv(features)
        target[..., :3, :] = 1e6
        fit.add(features, target, generator, within=(slice(3, None), slice(None)))
    assert torch.allclose(fit.solve(1e-9).weight, conv.weight, atol=1e-5)


@torch.no_grad()
def test_the_bias_is_not_penalised() -> None:
    conv = nn.Conv2d(2, 1, 3, padding=1)
    conv.weight.zero_()
    conv.bias.fill_(5.0)
    found = _fitted(conv, 4, penalty=1e3)
    assert abs(found.bias.item() - 5) < 1e-3
