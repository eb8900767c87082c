"""The levels of a tiny network: what each reads around a part of a picture, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.models.fast import Doubling, FastBlock, FastClamp
from taesd_ext.models.layers import Conv2d, ReLU
from taesd_ext.models.student import Head

LEAST_POSITIONS = 2048
"""No part is smaller. The CPU's convolutions add up in another order below about 400 positions (of 64 channels), and
the last bit of a tile would differ from that of a whole picture above it."""

SMALL_INPUT = 20480
"""Numbers in a convolution's input up to which torch does it without the CPU's library (ATen's Convolution.cpp,
use_mkldnn), in another order: no part may come below it where the whole picture is above."""

TENSORS_AT_ONCE = 3
"""A residual block holds its input, one convolution's input and its output."""


class Span(NamedTuple):
    """Positions along one axis, ``stop`` excluded."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


class Rect(NamedTuple):
    """Positions of a picture at some resolution."""

    rows: Span
    columns: Span

    @classmethod
    def whole(cls, height: int, width: int) -> Rect:
        return cls(Span(0, height), Span(0, width))

    @property
    def area(self) -> int:
        return self.rows.length * self.columns.length

    def halves(self, grain: int) -> tuple[Rect, Rect] | None:
        """Cut across the longer side, at a multiple of ``grain``; None where it is no longer than that."""
        longer = max(self, key=lambda span: span.length)
        middle = longer.start + (longer.length // 2 + grain - 1) // grain * grain
        if not longer.start < middle < longer.stop:
            return None
        parts = (Span(longer.start, middle), Span(middle, longer.stop))
        if self.rows.length >= self.columns.length:
            return Rect(parts[0], self.columns), Rect(parts[1], self.columns)
        return Rect(self.rows, parts[0]), Rect(self.rows, parts[1])

    def of(self, x: Tensor, place: Rect) -> Tensor:
        """This part of a tensor that lies at ``place`` of the whole; a view."""
        (top, left) = (own.start - its.start for own, its in zip(self, place, strict=True))
        return x[..., top : top + self.rows.length, left : left + self.columns.length]


@dataclass
class Level:
    """Layers of one resolution; the first may double the picture, or the last halve it."""

    layers: list[nn.Module]
    pixels: int
    """Of the image, along a side of one position."""
    doubles: bool = False
    halves: bool = False
    reach: int = 0
    """Positions that an output looks at to each side, before it is halved."""
    reads_all: bool = False
    """A norm looks at the whole picture."""

    def __post_init__(self) -> None:
        kinds = (Conv2d, Doubling)
        convolutions = [m for layer in self.layers for m in layer.modules() if isinstance(m, kinds)]
        self.width = max(
            (max(c.in_channels, c.out_channels) for c in convolutions if max(c.kernel_size) > 1), default=3
        )
        narrowest = min((c.in_channels for c in convolutions), default=1)
        self.least_positions = max(LEAST_POSITIONS, SMALL_INPUT // narrowest + 1)

    def length_after(self, length: int) -> int:
        return 2 * length if self.doubles else (length + 1) // 2 if self.halves else length

    def reads(self, wanted: Rect, size: tuple[int, int]) -> Rect:
        """The part of the input, of ``size`` in all, that the ``wanted`` outputs depend on."""
        return Rect(*(self._reads(*pair) for pair in zip(wanted, size, strict=True)))

    def _reads(self, wanted: Span, length: int) -> Span:
        if self.reads_all:
            return Span(0, length)
        start, stop = wanted
        if self.halves:  # output i is made of 2i-1 to 2i+1
            start, stop = 2 * start - 1, 2 * stop
        start, stop = start - self.reach, stop + self.reach
        if self.doubles:  # output 2i is made of inputs i-1 and i, output 2i+1 of i and i+1
            start, stop = (start - 1) // 2, stop // 2 + 1
        start = max(0, start)
        if self.halves:  # a part must begin where the whole picture has an even position too
            start -= start % 2
        return Span(start, min(length, stop))

    def run(self, x: Tensor, reads: Rect, wanted: Rect) -> Tensor:
        """The ``wanted`` outputs from the input that lies at ``reads``; a view."""
        starts = (2 * span.start if self.doubles else span.start // (1 + self.halves) for span in reads)
        y = through(self.layers, x)
        return wanted.of(y, Rect(*(Span(start, start + n) for start, n in zip(starts, y.shape[-2:], strict=True))))

    def positions(self, reads: Rect) -> int:
        """At its own resolution, when it reads these."""
        return reads.area * (4 if self.doubles else 1)

    def bytes(self, reads: Rect, itemsize: int) -> int:
        """What it takes at most."""
        return self.positions(reads) * TENSORS_AT_ONCE * self.width * itemsize


def levels_of(layers: Sequence[nn.Module], pixels: int) -> list[Level]:
    """Cut layers before each doubling and after each halving.

    ``pixels``: of the image, per position of the first layer's input. TaesdError for a layer of unknown reach.
    """
    cut: list[list[nn.Module]] = [[]]
    for layer in layers:
        if isinstance(layer, Doubling) and cut[-1]:
            cut.append([])
        cut[-1].append(layer)
        if _halves(layer):
            cut.append([])
    levels = []
    for own in filter(None, cut):
        doubles, halves = isinstance(own[0], Doubling), _halves(own[-1])
        pixels = pixels // 2 if doubles else pixels
        reach = sum(map(_reach, own[doubles : len(own) - halves]))
        reads_all = any(isinstance(layer, FastBlock) and layer.pool is not None for layer in own)
        levels.append(Level(own, pixels, doubles, halves, reach, reads_all))
        pixels = pixels * 2 if halves else pixels
    return levels


def _halves(layer: nn.Module) -> bool:
    return isinstance(layer, Conv2d) and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), (1, 1))


def _reach(layer: nn.Module) -> int:
    if isinstance(layer, FastBlock):
        return 3
    if isinstance(layer, Head):
        return len(layer.hidden) + 1
    if isinstance(layer, (ReLU, FastClamp)):
        return 0
    if isinstance(layer, Conv2d) and layer.stride == (1, 1) and layer.kernel_size[0] == 2 * layer.padding[0] + 1:
        return layer.padding[0]
    raise TaesdError(f"Cannot tile {type(layer).__name__}", "its reach is not known", 'Choose tile="off"')


def through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """All layers over all of ``x``; each result is let go as soon as the next layer has read it."""
    for layer in layers:
        x = layer(x)
    return x
