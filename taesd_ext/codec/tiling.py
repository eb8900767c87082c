"""Big pictures in exact tiles: the same result as at once, in a bounded amount of memory.

The coarse layers run over the whole picture: they are cheap, see far, and some look at all of it. The fine ones run
over tiles, each with the margin that their convolutions read around it; only what is right is kept, so that no seam is
left to hide.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.models.fast_layers import is_trusted, zoom_of
from taesd_ext.models.full_vae import Progress, Tile
from taesd_ext.models.layers import Conv2d
from taesd_ext.models.tiny import WIDTH

WHOLE_BYTES = 512 << 20
"""A picture that takes no more is done at once: 836x836 in float32, 1182x1182 in half precision."""

TENSORS_AT_ONCE = 3
"""A residual block holds its input, one convolution's input and its output."""

TILE = 384
"""Pixels."""

TILED_SCALE = 4
"""Pixels a position of the coarsest layers that run over tiles."""

LEAST_POSITIONS = 512
"""Of the coarse picture, in a tile. The CPU's convolutions add up in another order below about 400 positions, or 20480
numbers (ATen's Convolution.cpp, use_mkldnn), and a tile would differ in the last bit from a whole picture above."""


@dataclass
class Output:
    """Where a result goes: ``finish`` is applied to each part (it may write into it), then it is stored."""

    dtype: torch.dtype
    device: torch.device
    finish: Callable[[Tensor], Tensor] = lambda part: part
    progress: Progress | None = None
    tile_side: int = 0
    """In pixels, of the tiles in which it was made; 0: at once."""

    def whole(self, result: Tensor) -> Tensor:
        """A result in one piece, as a tensor of its own."""
        stored = self.finish(result).to(self.device, self.dtype).contiguous()
        if self.progress:
            self.progress(1.0)
        return stored


class Level(NamedTuple):
    """Layers of one size; the first may change it."""

    layers: list[nn.Module]
    zoom: float
    """Positions made of each that is read, along a side."""
    margin: int
    """Positions to read around a tile for all that follows to be right."""


def check_tile(tile: Tile) -> None:
    if tile not in ("auto", "off") and not (isinstance(tile, int) and tile > 0):
        raise TaesdError(f"Cannot use tiles of {tile!r}", 'a number of pixels, "auto" or "off" was expected')


def run_layers(
    layers: Sequence[nn.Module], x: Tensor, pixels: int, tile: Tile, output: Output, *,
    layout: torch.memory_format, whole_bytes: float | None = None,
) -> Tensor:  # fmt: skip
    """A decoder's layers over a latent (B,C,h,w), or an encoder's over an image (B,3,H,W), in tiles where need be.

    ``pixels``: of the image, per position of ``x``. ``whole_bytes``: what may be taken at once, instead of
    :data:`WHOLE_BYTES`.
    """
    x = x.contiguous(memory_format=layout)
    before, fine, after, grain = _cut(layers, pixels)
    finest = x[:, 0].numel() * max(1, math.prod(map(zoom_of, layers))) ** 2
    most = WHOLE_BYTES if whole_bytes is None else whole_bytes
    whole = tile == "auto" and finest * WIDTH * TENSORS_AT_ONCE * x.element_size() <= most
    if whole or tile == "off" or not fine:
        return output.whole(_through(layers, x))
    x = _one_by_one(before, x)
    side = TILE if tile == "auto" else tile
    if pixels > 1:
        return _tiled(levels_of(fine), x, 1, grain, side, output)
    between = Output(x.dtype, x.device, progress=output.progress)
    x = _tiled(levels_of(fine), x, grain, grain, side, between).contiguous(memory_format=layout)
    output.progress, output.tile_side = None, between.tile_side
    return output.whole(_one_by_one(after, x))


def levels_of(layers: Sequence[nn.Module]) -> list[Level]:
    """Cut layers before each change of the size."""
    levels: list[Level] = []
    own: list[nn.Module] = []
    margin = 0
    for index in range(len(layers) - 1, -1, -1):
        layer, zoom = layers[index], zoom_of(layers[index])
        own.insert(0, layer)
        if zoom > 1:  # output 2i is made of inputs i-1 and i, output 2i+1 of i and i+1
            margin = margin // 2 + 1
        elif zoom < 1:  # output i is made of 2i-1 to 2i+1, and a part must begin at an even position
            margin = 2 * margin + 2
        else:
            margin += sum(m.kernel_size[0] // 2 for m in layer.modules() if isinstance(m, Conv2d))
        if zoom != 1 or index == 0:
            levels.insert(0, Level(own, zoom, margin))
            own = []
    return levels


def even_spans(length: int, tile: int, stride: int) -> list[slice]:
    """Places of full tiles, evenly spread over ``length`` and at most ``stride`` apart; one where it fits a tile."""
    steps = max(0, math.ceil((length - tile) / stride))
    starts = [round(step * (length - tile) / steps) for step in range(steps + 1)] if steps else [0]
    return [slice(start, min(start + tile, length)) for start in starts]


def _cut(layers: Sequence[nn.Module], pixels: int) -> tuple[list, list, list, int]:
    """The layers before, in and after the part that runs over tiles, and the pixels a position where it is coarsest."""
    scale = pixels
    for index, layer in enumerate(layers):
        scale, coarser = scale / zoom_of(layer), scale
        if pixels > 1 and scale <= TILED_SCALE:
            return list(layers[:index]), list(layers[index:]), [], int(coarser)
        if pixels == 1 and scale == TILED_SCALE:
            return [], list(layers[: index + 1]), list(layers[index + 1 :]), int(scale)
    return list(layers), [], [], pixels


def _through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """All layers over all of ``x``; each result is let go as soon as the next layer has read it."""
    for layer in layers:
        x = layer(x)
    return x


def _one_by_one(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    return torch.cat([_through(layers, picture) for picture in x.split(1)]) if layers else x


def _tiled(levels: list[Level], x: Tensor, unit: int, grain: int, side: int, output: Output) -> Tensor:
    """Levels over tiles of a coarse grid, ``unit`` positions of ``x`` and ``grain`` pixels to one of it."""
    grid = [length // unit for length in x.shape[-2:]]
    least = max(side // grain, math.isqrt(LEAST_POSITIONS - 1) + 1)
    sides = [max(least, -(-LEAST_POSITIONS // min(least, other))) for other in reversed(grid)]
    places = list(product(*map(even_spans, grid, sides, sides)))
    if len(places) > 1:
        output.tile_side = grain * max(min(pair) for pair in zip(sides, grid, strict=True))
    zoom, result = unit * math.prod(level.zoom for level in levels), None
    for done, ((rows, columns), number) in enumerate(product(places, range(len(x))), start=1):
        part = output.finish(_tile(levels, x[number : number + 1], (rows, columns), grid, unit))
        if result is None:
            where = output.device if is_trusted(output.device) else "cpu"
            size = (int(length * zoom) for length in grid)
            result = torch.empty((len(x), part.shape[1], *size), dtype=output.dtype, device=where)
        result[(number, slice(None), *(_times(span, zoom) for span in (rows, columns)))] = part[0]
        if output.progress:
            output.progress(done / (len(places) * len(x)))
    return result.to(output.device)


def _tile(levels: list[Level], x: Tensor, place: tuple[slice, slice], grid: list[int], unit: float) -> Tensor:
    """What belongs to a place in the grid, and nothing beside it."""

    def around(margin: int) -> list[slice]:
        return [
            slice(max(0, span.start - margin), min(int(unit * length), span.stop + margin))
            for span, length in zip((_times(span, unit) for span in place), grid, strict=True)
        ]

    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    read = around(levels[0].margin)
    part = x[(..., *read)]
    for level, margin in zip(levels, (*(level.margin for level in levels[1:]), 0), strict=True):
        part = _through(level.layers, part.contiguous(memory_format=layout))
        unit *= level.zoom
        starts = [_times(span, level.zoom).start for span in read]
        read = around(margin)
        part = part[(..., *(slice(s.start - start, s.stop - start) for s, start in zip(read, starts, strict=True)))]
    return part


def _times(span: slice, factor: float) -> slice:
    return slice(int(span.start * factor), int(span.stop * factor))
