"""Blended tiles: nothing is lost or moved, and no seam is left where a plain cut shows one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.full_vae import FullDecoder, FullEncoder

FACTOR = 4


class Pointwise(nn.Module):
    """A decoder without neighbours: tiles make no difference to it."""

    def __init__(self) -> None:
        super().__init__()
        self.areas: list[int] = []

    def forward(self, latent: Tensor) -> Tensor:
        self.areas.append(latent.shape[-1] * latent.shape[-2])
        return functional.interpolate(latent.tanh(), scale_factor=FACTOR)


class Centred(nn.Module):
    """A decoder that looks at all it is given, as a norm does: each tile comes out at another brightness."""

    def forward(self, latent: Tensor) -> Tensor:
        return functional.interpolate(latent - latent.mean(), scale_factor=FACTOR, mode="bilinear")


class Pooled(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return functional.avg_pool2d(pixels, FACTOR)


sides = st.integers(1, 40)


@settings(max_examples=15)
@given(sides, sides, st.integers(2, 12), st.integers(2, 12), st.floats(0.3, 1), st.booleans())
def test_tiles_cover_every_position_once(
    height: int, width: int, tall: int, wide: int, step: float, spread: bool
) -> None:
    tiler = BlendedTiler(
        FACTOR,
        tile=(tall * FACTOR, wide * FACTOR),
        stride=(max(1, int(tall * step)) * FACTOR, max(1, int(wide * step)) * FACTOR),
        whole_pixels=0,
        spread=spread,
    )
    network = Pointwise()
    latent = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(0))
    whole = Pointwise()(latent)
    torch.testing.assert_close(tiler.decode(network, latent), whole)
    assert max(network.areas) <= tall * wide
    assert not spread or len(set(network.areas)) == 1
    torch.testing.assert_close(tiler.encode(Pooled(), whole), latent.tanh())


def test_small_pictures_are_run_whole() -> None:
    tiler = BlendedTiler(FACTOR, (32, 32), (24, 24), whole_pixels=64 * 64)
    network = Pointwise()
    tiler.decode(network, torch.zeros(1, 1, 16, 16))
    assert network.areas == [256]
    tiler.decode(network, torch.zeros(1, 1, 16, 17))
    assert network.areas[1:] == [64] * 9


def test_a_tile_can_be_chosen_and_progress_is_told() -> None:
    tiler = BlendedTiler(FACTOR)
    network, told = Pointwise(), []
    latent = torch.randn(1, 1, 20, 20)
    whole = tiler.decode(network, latent)
    assert network.areas == [400]
    torch.testing.assert_close(tiler.decode(network, latent, 32, told.append), whole)
    assert set(network.areas[1:]) == {64}
    assert told == sorted(told)
    assert (len(told), told[-1]) == (len(network.areas) - 1, 1.0)
    tiler.decode(network, latent, 1)
    assert network.areas[-1] == 16, "a tile of less than four positions would be nothing but overlap"
    small = replace(tiler, whole_pixels=0, tile=(32, 32), stride=(24, 24))
    small.decode(network, latent, "off")
    assert network.areas[-1] == 400


def test_a_full_vae_passes_the_choice_on() -> None:
    scale = BY_NAME["sd3"]
    decoder, encoder = FullDecoder(Pointwise(), scale), FullEncoder(Pooled(), scale)
    decoder.tiler = encoder.tiler = BlendedTiler(FACTOR)
    latent, told = torch.randn(2, 3, 16, 16), []
    image = decoder(latent, tile=32, progress=told.append)
    assert set(decoder.network.areas) == {64}
    assert told == sorted(told)
    assert told[-1] == 1.0
    torch.testing.assert_close(encoder(image, tile=32), encoder(image, tile="off"))
    with pytest.raises(ZeroDivisionError):
        decoder(latent, progress=lambda part: 1 / 0)


def seam(image: Tensor, whole: Tensor) -> float:
    """The largest step between neighbouring columns that the whole picture does not have."""
    return float((image.diff(dim=-1) - whole.diff(dim=-1)).abs().max())


@pytest.mark.parametrize("spread", [True, False])
def test_blending_takes_the_seam_away(spread: bool) -> None:
    """A plain cut jumps by the whole difference between two tiles, a blend by an overlap's fraction of it."""
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 16, 64)
    whole = Centred()(ramp)
    blended = BlendedTiler(FACTOR, (64, 64), (48, 48), whole_pixels=0, spread=spread)
    cut = replace(blended, stride=(64, 64))
    jump = seam(cut.decode(Centred(), ramp), whole)
    assert jump > 0.2
    assert seam(blended.decode(Centred(), ramp), whole) < jump / 10
