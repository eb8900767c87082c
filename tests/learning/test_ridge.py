"""Convolutions solved in closed form."""

import pytest
import torch
from torch import nn

from taesd_ext.codec.noise import seeded
from taesd_ext.learning import ridge


@pytest.mark.parametrize(
    ("penalty", "spoilt"), [(1e-9, 0), (1e-9, 3), (1e3, 0)], ids=["exact", "within", "the bias is not penalised"]
)
@torch.no_grad()
def test_finds_the_convolution_that_made_the_targets(penalty: float, spoilt: int, monkeypatch) -> None:
    monkeypatch.setattr(ridge, "PENALTY", penalty)
    conv = nn.Conv2d(4, 3, 3, padding=1)
    if penalty > 1:
        conv.weight.zero_()
        conv.bias.fill_(5.0)
    generator, fit = seeded(0), ridge.ConvolutionFit(4, 3)
    for _ in range(8):
        features = torch.randn(1, 4, 12, 10, generator=generator)
        target = conv(features)
        target[..., :spoilt, :] = 1e6
        fit.add(features, target, generator, within=(slice(spoilt, None), slice(None)))
    found = fit.solve()
    assert torch.allclose(found.weight, conv.weight, atol=1e-3 if penalty > 1 else 1e-5)
    assert torch.allclose(found.bias, conv.bias, atol=1e-3 if penalty > 1 else 1e-5)
