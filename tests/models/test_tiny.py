"""The tiny networks: sizes, shapes, and that building one leaves the random state alone."""

from __future__ import annotations

import pytest
import torch

from taesd_ext.models import tiny
from taesd_ext.weights.checkpoint import TinyArchitecture


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Counts of the official weight files: taesd, taef2, taesana (the Sana decoder: 8.3 million).
@pytest.mark.parametrize(
    ("network", "count"),
    [
        (tiny.Encoder(4), 1_222_532),
        (tiny.Decoder(4), 1_222_531),
        (tiny.Encoder(32, midblock_norm=True), 1_338_528),
        (tiny.Decoder(32, midblock_norm=True), 1_338_499),
        (tiny.F32Encoder(32), 1_256_288),
        (tiny.F32Decoder(32), 8_301_763),
    ],
    ids=["encoder", "decoder", "flux2 encoder", "flux2 decoder", "sana encoder", "sana decoder"],
)
def test_parameter_counts_are_those_of_the_published_files(network: torch.nn.Module, count: int) -> None:
    assert parameters(network) == count


@pytest.mark.parametrize(
    ("encoder", "decoder", "channels", "factor"),
    [
        (tiny.Encoder(4), tiny.Decoder(4), 4, 8),
        (tiny.Encoder(16), tiny.Decoder(16), 16, 8),
        (tiny.Encoder(32, midblock_norm=True), tiny.Decoder(32, midblock_norm=True), 32, 8),
        (tiny.F32Encoder(), tiny.F32Decoder(), 32, 32),
    ],
    ids=["4", "16", "flux2", "sana"],
)
@torch.no_grad()
def test_shapes(encoder: torch.nn.Module, decoder: torch.nn.Module, channels: int, factor: int) -> None:
    latent = encoder(torch.rand(2, 3, 2 * factor, 3 * factor))
    assert latent.shape == (2, channels, 2, 3)
    assert decoder(latent).shape == (2, 3, 2 * factor, 3 * factor)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("architecture", [TinyArchitecture(4), TinyArchitecture(32, 8, True), TinyArchitecture(32, 32)])
def test_building_leaves_the_random_state_alone(architecture: TinyArchitecture, part: str) -> None:
    before = torch.random.get_rng_state()
    architecture.build(part)
    assert torch.equal(torch.random.get_rng_state(), before)
