"""Heads and the previewer: shapes, costs, and that they leave their input alone."""

import pytest
import torch

from taesd_ext.models.student import Head, Overview, Previewer

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


@pytest.mark.parametrize(("channels", "overview"), [(4, False), (16, False), (32, True)])
def test_previewer(channels: int, overview: bool) -> None:
    latent = torch.randn(2, channels, 6, 9) * 5
    before = latent.clone()
    network = Previewer(channels, overview=overview).requires_grad_(False)
    assert network(latent).shape == (2, 3, 12, 18)
    assert torch.equal(latent, before)
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights / FULL_MACS < 0.012, "Approx NN costs 1.2 % of the full decode"
    assert 2 * weights < 300_000, "a file has at most 300 KB"


def test_overview_sees_each_whole_picture_and_no_other() -> None:
    overview = Overview(3).requires_grad_(False)
    overview.mix.bias.fill_(1)  # keeps the values away from ReLU's zero
    a, b = torch.rand(2, 1, 3, 8, 8).unbind()
    assert torch.allclose(overview(torch.cat([a, b])), torch.cat([overview(a), overview(b)]), atol=1e-6)
    elsewhere = a.clone()
    elsewhere[..., :4] += 1
    assert not torch.allclose(overview(elsewhere)[..., 7], overview(a)[..., 7])


def test_overview_in_bfloat16_and_large_values() -> None:
    x = torch.rand(1, 3, 8, 8) * 1000
    overview = Overview(3).requires_grad_(False)
    overview.mix.weight.mul_(1e-3)
    wanted = overview(x)
    assert torch.allclose(overview.bfloat16()(x.bfloat16()).float(), wanted, rtol=0.05, atol=20)
