"""Heads and the previewer: shapes, costs, and that they leave their input alone."""

from __future__ import annotations

import pytest
import torch

from taesd_ext.models.student import Head, Previewer

FULL_MACS = 17.26e6
"""Multiplications of the 8x decoder per latent position: 70.7 G at 64x64."""


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_head(depth: int) -> None:
    features = torch.randn(2, 64, 5, 7)
    before = features.clone()
    head = Head(depth).requires_grad_(False)
    assert head(features).shape == (2, 3, 5, 7)
    assert torch.equal(features, before)


def test_head_without_hidden_layers_is_linear() -> None:
    head = Head(0).requires_grad_(False)
    a, b = torch.randn(2, 1, 64, 6, 6, dtype=torch.float64).unbind()
    head.double()
    zero = head(torch.zeros_like(a))
    assert torch.allclose(head(a + b) - zero, head(a) - zero + head(b) - zero)


@pytest.mark.parametrize("channels", [4, 16, 32])
def test_previewer(channels: int) -> None:
    latent = torch.randn(2, channels, 6, 9) * 5
    before = latent.clone()
    network = Previewer(channels).requires_grad_(False)
    assert network(latent).shape == (2, 3, 12, 18)
    assert torch.equal(latent, before)
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights / FULL_MACS < 0.012, "Approx NN costs 1.2 % of the full decode"
    assert 2 * weights < 300_000, "a file has at most 300 KB"
