"""A minute's benchmark of one codec: what a preview costs at each detail and size."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.commands.measuring import timed
from taesd_ext.preview.frame import preview_image

SIDES = (256, 512, 1024)


@dataclass(frozen=True)
class BenchRow:
    """One detail at one size."""

    side: int
    """Of the picture, in pixels."""
    detail: str
    milliseconds: float
    """Median, from the latent to the encoded frame."""
    width: int
    height: int
    """Of the preview, in pixels."""


def quick_bench(
    codec: Codec, sides: Sequence[int] = SIDES, runs: int = 3, is_cancelled: Callable[[], bool] = lambda: False
) -> Iterator[BenchRow]:
    """Time the codec's previews of square pictures, cheapest first. The random state is left alone."""
    generator = torch.Generator().manual_seed(0)
    for side in sides:
        positions = -(-side // codec.spatial_scale_factor)
        latent = torch.randn(1, codec.latent_channels, positions, positions, generator=generator).to(codec.device)
        for detail in codec.details:
            if is_cancelled():
                return
            calls = [
                timed(lambda detail=detail, latent=latent: preview_image(codec.decode(latent, detail=detail)))
                for _ in range(runs + 1)
            ]
            median = statistics.median(call.wall for call in calls[1:])  # the first one warms up
            yield BenchRow(side, detail, 1000 * median, *calls[0].result.size)
