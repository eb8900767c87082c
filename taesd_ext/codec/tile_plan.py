"""Which part of a picture each stage of a network works on, in whole numbers, so that tiles change nothing.

A network is a row of *levels*; each works at one resolution and doubles or halves the picture at its start or end. A
tile of the result needs of each level a little more than the tile: what the later convolutions read around it (the
halo). A *piece* says what one level reads and which part of its result is right and wanted.

The plan is a tree, so that the coarse levels, which are cheap and have the widest halo in pixels, run over large
pieces or the whole picture, and only the fine levels, which need the memory, over small ones. A decoder's pieces part
into finer ones on the way to the image, an encoder's come together on the way to the latent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Span(NamedTuple):
    """Positions along one axis, ``stop`` excluded."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def split(self, count: int, grain: int = 1) -> list[Span]:
        """Up to ``count`` parts that lie on multiples of ``grain`` and differ by no more than that."""
        units = math.ceil(self.length / grain)
        count = max(1, min(count, units))
        cuts = [self.start + min(self.length, round(units * i / count) * grain) for i in range(count + 1)]
        return [Span(*pair) for pair in itertools.pairwise(cuts)]


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

    def grid(self, down: int, across: int, grain: int = 1) -> list[Rect]:
        return [
            Rect(rows, columns)
            for rows in self.rows.split(down, grain)
            for columns in self.columns.split(across, grain)
        ]


# What one layer does to positions: ("reach", r) reads r to each side, ("double", 1) is a transposed convolution
# (kernel 4, stride 2, padding 1), ("halve", 1) a convolution (kernel 3, stride 2, padding 1), ("shuffle", f) gives
# each position f*f ones, ("whole", 0) reads everything.
Step = tuple[str, int]


LEAST_POSITIONS = 2048
"""No piece is smaller. The CPU's convolutions add up in another order below about 400 positions (of 64 channels), and
the last bit of a tile would differ from that of a whole picture above it."""


@dataclass(frozen=True)
class Level:
    """The geometry of a row of layers and what they cost."""

    steps: tuple[Step, ...]
    scale: float = 1
    """Image pixels per position at which this level does its work."""
    bytes_per_position: int = 1
    """Peak memory of the level for each position that it works on."""
    work_per_position: int = 1
    """Multiplications for each position that it works on."""
    least_positions: int = LEAST_POSITIONS
    """How many it must work on at once, to sum in the same order as over the whole picture."""

    @property
    def reads_everything(self) -> bool:
        return any(kind == "whole" for kind, _ in self.steps)

    def length_after(self, length: int) -> int:
        """Positions that come out of ``length`` ones."""
        for kind, amount in self.steps:
            length = _length_after(kind, amount, length)
        return length

    def reads(self, wanted: Span, length: int) -> Span:
        """The input positions, of ``length`` in all, that the ``wanted`` output positions depend on."""
        lengths = [length]
        for kind, amount in self.steps:
            lengths.append(_length_after(kind, amount, lengths[-1]))
        for (kind, amount), before in zip(reversed(self.steps), reversed(lengths[:-1]), strict=True):
            wanted = _reads(kind, amount, wanted, before)
        if any(kind == "halve" for kind, _ in self.steps):
            # The piece must begin where the whole picture has an even position too.
            wanted = Span(wanted.start - wanted.start % 2, wanted.stop)
        return wanted

    def gives(self, read: Span) -> Span:
        """Where the output of a run over ``read`` lies in the output of the whole."""
        start = read.start
        for kind, amount in self.steps:
            start = {"double": 2 * start, "halve": start // 2, "shuffle": amount * start}.get(kind, start)
        return Span(start, start + self.length_after(read.length))

    def positions(self, read: Rect) -> int:
        """How many positions of its own resolution the level works on when it reads these."""
        doubled = 4 if ("double", 1) in self.steps else 1
        return read.area * doubled


def _length_after(kind: str, amount: int, length: int) -> int:
    if kind == "double":
        return 2 * length
    if kind == "halve":
        return (length + 1) // 2
    return amount * length if kind == "shuffle" else length


def _reads(kind: str, amount: int, wanted: Span, length: int) -> Span:
    start, stop = wanted
    if kind == "reach":
        start, stop = start - amount, stop + amount
    elif kind == "double":
        # Output 2i is made of inputs i-1 and i, output 2i+1 of i and i+1.
        start, stop = (start - 1) // 2, stop // 2 + 1
    elif kind == "halve":
        # Output i is made of inputs 2i-1 to 2i+1.
        start, stop = 2 * start - 1, 2 * stop
    elif kind == "shuffle":
        start, stop = start // amount, math.ceil(stop / amount)
    elif kind == "whole":
        start, stop = 0, length
    return Span(max(0, start), min(length, stop))


@dataclass(frozen=True)
class Piece:
    """One level's work on one part of the picture."""

    level: int
    reads: Rect
    """Of the level's input."""
    gives: Rect
    """Of the level's output: right and wanted, without the halo."""
    parts: tuple[Piece, ...] = field(default=(), repr=False)
    """The pieces of the next finer level: those that read this one's result, or whose results this one reads."""

    def walk(self) -> Iterator[Piece]:
        yield self
        for part in self.parts:
            yield from part.walk()


TILE_GRAIN = 8
"""Pixels: tiles begin at multiples of it where that is possible."""

Cut = Callable[[Level, int, Rect, int], tuple[int, int]]
"""(level, positions it would work on, the rectangle to deliver, image pixels per position of it) -> into how many
parts down and across to cut it; (1, 1) where it is small enough."""


def cut_to_bytes(budget: int, grain: int = 32) -> Cut:
    """Halve the longer side until a level's work fits into ``budget`` bytes, but not below ``grain`` pixels."""

    def cut(level: Level, positions: int, rect: Rect, pixels: int) -> tuple[int, int]:
        down, across = rect.rows.length, rect.columns.length
        if positions * level.bytes_per_position <= budget or max(down, across) * pixels <= grain:
            return 1, 1
        return (2, 1) if down >= across else (1, 2)

    return cut


def cut_to_pixels(side: int, tail_scale: float = 2) -> Cut:
    """Tiles of at most ``side`` pixels on each side, for levels at ``tail_scale`` pixels a position and finer."""

    def cut(level: Level, positions: int, rect: Rect, pixels: int) -> tuple[int, int]:
        if level.scale > tail_scale:
            return 1, 1
        most = max(1, side // pixels)
        return math.ceil(rect.rows.length / most), math.ceil(rect.columns.length / most)

    return cut


def _parts(level: Level, rect: Rect, pixels: int, cut: Cut, reads_of: Callable[[Rect], Rect]) -> list[Rect]:
    """The rectangle's parts, as ``cut`` wants them but none too small."""
    if level.reads_everything:
        return [rect]
    down, across = cut(level, level.positions(reads_of(rect)), rect, pixels)
    while down * across > 1:
        parts = rect.grid(down, across, max(1, TILE_GRAIN // pixels))
        if min(level.positions(reads_of(part)) for part in parts) >= level.least_positions:
            return parts
        if down >= across:
            down = math.ceil(down / 2)
        else:
            across = math.ceil(across / 2)
    return [rect]


def plan_decode(levels: Sequence[Level], height: int, width: int, cut: Cut) -> tuple[Piece, ...]:
    """Pieces for an input of ``height`` x ``width`` positions that together give the whole output, coarse to fine."""
    sizes = _sizes(levels, height, width)

    def wanted_of(number: int, final: Rect) -> tuple[Rect, Rect]:
        """What a level must give and read, so that the last one can give ``final``."""
        gives = final
        for later in range(len(levels) - 1, number, -1):
            gives = _rect_read(levels[later], gives, sizes[later])
        return gives, _rect_read(levels[number], gives, sizes[number])

    def pieces(number: int, final: Rect) -> list[Piece]:
        level = levels[number]
        gives, reads = wanted_of(number, final)
        parts = _parts(level, final, 1, cut, lambda part: wanted_of(number, part)[1])
        if len(parts) > 1:
            return [piece for part in parts for piece in pieces(number, part)]
        finer = pieces(number + 1, final) if number + 1 < len(levels) else []
        return [Piece(number, reads, gives, tuple(finer))]

    return tuple(pieces(0, Rect.whole(*sizes[-1])))


def plan_encode(levels: Sequence[Level], height: int, width: int, cut: Cut) -> tuple[Piece, ...]:
    """Pieces for an image of ``height`` x ``width`` that together give the whole output; level 0 is the finest."""
    sizes = _sizes(levels, height, width)

    def pieces(number: int, gives: Rect) -> list[Piece]:
        level = levels[number]
        reads = _rect_read(level, gives, sizes[number])
        pixels = max(1, round(sizes[0][0] / sizes[number + 1][0]))
        parts = _parts(level, gives, pixels, cut, lambda part: _rect_read(level, part, sizes[number]))
        if len(parts) > 1:
            return [piece for part in parts for piece in pieces(number, part)]
        finer = pieces(number - 1, reads) if number else []
        return [Piece(number, reads, gives, tuple(finer))]

    return tuple(pieces(len(levels) - 1, Rect.whole(*sizes[-1])))


def total_work(levels: Sequence[Level], plan: Sequence[Piece]) -> int:
    """Multiplications of a plan, those for the halos included."""
    return sum(piece_work(levels, piece) for top in plan for piece in top.walk())


def piece_work(levels: Sequence[Level], piece: Piece) -> int:
    level = levels[piece.level]
    return level.positions(piece.reads) * level.work_per_position


def is_whole(plan: Sequence[Piece]) -> bool:
    """Whether nothing is cut."""
    return len(plan) == 1 and all(len(piece.parts) <= 1 for piece in plan[0].walk())


def _sizes(levels: Sequence[Level], height: int, width: int) -> list[tuple[int, int]]:
    """Height and width before each level and after the last."""
    sizes = [(height, width)]
    for level in levels:
        sizes.append((level.length_after(sizes[-1][0]), level.length_after(sizes[-1][1])))
    return sizes


def _rect_read(level: Level, gives: Rect, size: tuple[int, int]) -> Rect:
    return Rect(level.reads(gives.rows, size[0]), level.reads(gives.columns, size[1]))
