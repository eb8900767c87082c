"""Big pictures in exact tiles: the same result as at once, in a bounded amount of memory.

A network is a row of *levels* of one resolution each. Coarse levels are cheap and have the widest halo in pixels: they
run over the whole picture, or large parts of it. A level that would take too much memory runs over halves, and halves
of those, each with what its convolutions read around it; only what is right is kept, so that no seam is left to hide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from taesd_ext.codec.tile_levels import Level, Rect, levels_of, through
from taesd_ext.errors import TaesdError
from taesd_ext.models.fast import FastDecoder, FastEncoder, is_trusted

TileChoice = int | Literal["auto", "off"]
"""Longest side of a tile in pixels; "auto": only what would take too much memory; "off": never."""

Progress = Callable[[float], None]
"""Told after each tile which part of the picture is done, up to 1. What it raises stops the work."""

WHOLE_BYTES = 512 << 20
"""A picture whose largest step takes no more is done at once: 836x836 in float32, 1182x1182 in half precision."""

PIECE_BYTES = 128 << 20
"""What a step of a bigger picture may take. The coarser steps of the same tile stay in memory beside it."""

LEAST_PIXELS = 32
"""Side of a tile below which memory alone is no reason to cut it further."""

TILED_SCALE = 2
"""Tiles of a given side are cut from this many pixels a position on; coarser levels run over the whole picture."""


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
        result = self.finish(result)
        stored = result.to(self.device, self.dtype).contiguous()
        if self.progress:
            self.progress(1.0)
        return stored

    def gathered(self, parts: Iterator[tuple[int, Rect, Tensor]], count: int, height: int, width: int) -> Tensor:
        """The parts of ``count`` pictures, each told with its picture's number and its place in it."""
        result, done = None, 0
        for number, place, part in parts:
            finished = self.finish(part)
            if result is None:
                where = self.device if is_trusted(self.device) else "cpu"
                result = torch.empty((count, finished.shape[1], height, width), dtype=self.dtype, device=where)
            place.of(result[number : number + 1], Rect.whole(height, width)).copy_(finished)
            done += place.area
            if self.progress:
                self.progress(done / (count * height * width))
        return result.to(self.device)


def decode_in_tiles(
    layers: Sequence[nn.Module], latent: Tensor, pixels: int, tile: TileChoice, output: Output, *,
    whole_bytes: float | None = None,
) -> Tensor:  # fmt: skip
    """(B,C,h,w) -> (B,3,H,W) through a decoder's layers. ``pixels``: of the image, per position of the latent.

    ``whole_bytes``: what may be taken at once, instead of :data:`WHOLE_BYTES`.
    """
    layout = FastDecoder.layout(latent.device, latent.dtype)
    x = latent.contiguous(memory_format=layout)
    job = _Job.needed(layers, x, pixels, layout, tile, whole_bytes)
    return output.whole(through(layers, x)) if job is None else job.run(job.decode, x, output)


def encode_in_tiles(
    layers: Sequence[nn.Module], image: Tensor, tile: TileChoice, output: Output, *,
    whole_bytes: float | None = None,
) -> Tensor:  # fmt: skip
    """(B,3,H,W) -> (B,C,h,w) through an encoder's layers."""
    layout = FastEncoder.layout(image.device, image.dtype)
    x = image.contiguous(memory_format=layout)
    job = _Job.needed(layers, x, 1, layout, tile, whole_bytes)
    return output.whole(through(layers, x)) if job is None else job.run(job.encode, x, output)


def check_tile(tile: TileChoice) -> None:
    if tile not in ("auto", "off") and not (isinstance(tile, int) and tile > 0):
        raise TaesdError(f"Cannot use tiles of {tile!r}", 'a number of pixels, "auto" or "off" was expected')


@dataclass
class _Job:
    """Levels, and the picture's size before each of them and after the last."""

    levels: list[Level]
    sizes: list[tuple[int, int]]
    itemsize: int
    layout: torch.memory_format
    side: int | None
    """Of a tile, in pixels; None: as memory asks for it."""
    cut_to: int = 0
    """The longest side in pixels of the smallest parts so far; 0: nothing was cut."""

    @classmethod
    def needed(
        cls, layers: Sequence[nn.Module], x: Tensor, pixels: int, layout: torch.memory_format, tile: TileChoice,
        whole_bytes: float | None,
    ) -> _Job | None:  # fmt: skip
        """None where the picture is done at once."""
        if tile == "off":
            return None
        side = None if tile == "auto" else tile
        job = cls(levels_of(layers, pixels), [tuple(x.shape[-2:])], x.element_size(), layout, side)
        for level in job.levels:
            job.sizes.append(tuple(map(level.length_after, job.sizes[-1])))
        most = WHOLE_BYTES if whole_bytes is None else whole_bytes
        return None if tile == "auto" and job.peak_bytes() * len(x) <= most else job

    def peak_bytes(self) -> int:
        """What the level that needs most takes when a picture is done at once."""
        places = (Rect.whole(*size) for size in self.sizes)
        return max(level.bytes(place, self.itemsize) for level, place in zip(self.levels, places, strict=False))

    def run(self, parts: Callable[[Tensor], Iterator[tuple[Rect, Tensor]]], x: Tensor, output: Output) -> Tensor:
        numbered = ((number, *part) for number, one in enumerate(x.split(1)) for part in parts(one))
        result = output.gathered(numbered, len(x), *self.sizes[-1])
        output.tile_side = self.cut_to
        return result

    def decode(self, x: Tensor) -> Iterator[tuple[Rect, Tensor]]:
        """Coarse to fine: what a level gives is read by the next, for all parts of its own part of the image."""
        return self._finer(0, x, Rect.whole(*self.sizes[0]), Rect.whole(*self.sizes[-1]))

    def _finer(self, number: int, x: Tensor, place: Rect, final: Rect) -> Iterator[tuple[Rect, Tensor]]:
        if number == len(self.levels):
            yield final, x
            return
        level = self.levels[number]

        def reads(part: Rect) -> Rect:
            return level.reads(self._wanted(number, part), self.sizes[number])

        for part in self._parts(level, final, self.levels[-1].pixels, reads):
            wanted, read = self._wanted(number, part), reads(part)
            yield from self._finer(number + 1, level.run(self._own(read.of(x, place)), read, wanted), wanted, part)

    def _wanted(self, number: int, final: Rect) -> Rect:
        """What a level must give so that the last one can give ``final``."""
        for later in range(len(self.levels) - 1, number, -1):
            final = self.levels[later].reads(final, self.sizes[later])
        return final

    def encode(self, x: Tensor) -> Iterator[tuple[Rect, Tensor]]:
        """Fine to coarse: what a level reads is put together from the parts that the one before gives."""
        return self._coarser(len(self.levels) - 1, x, Rect.whole(*self.sizes[-1]))

    def _coarser(self, number: int, x: Tensor, gives: Rect) -> Iterator[tuple[Rect, Tensor]]:
        level, size = self.levels[number], self.sizes[number]
        for part in self._parts(level, gives, level.pixels * (1 + level.halves), lambda one: level.reads(one, size)):
            read = level.reads(part, size)
            if number == 0:
                source = self._own(read.of(x, Rect.whole(*size)))
            else:
                source = None
                for place, made in self._coarser(number - 1, x, read):
                    if source is None:
                        shape = (1, made.shape[1], read.rows.length, read.columns.length)
                        source = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=self.layout)
                    place.of(source, read).copy_(made)
            yield part, level.run(source, read, part)

    def _parts(self, level: Level, whole: Rect, pixels: int, reads: Callable[[Rect], Rect]) -> Iterator[Rect]:
        """Halves, and halves of those, until each is small enough; never too small.

        ``whole`` has ``pixels`` of the image per position.
        """
        longest = max(span.length for span in whole) * pixels
        if self.side is None:
            enough = level.bytes(reads(whole), self.itemsize) <= PIECE_BYTES or longest <= LEAST_PIXELS
        else:
            enough = level.pixels > TILED_SCALE or longest <= self.side
        halves = None if enough or level.reads_all else whole.halves(max(1, 8 // pixels))
        if halves is None or min(level.positions(reads(half)) for half in halves) < level.least_positions:
            yield whole
            return
        half_side = max(span.length for span in halves[0]) * pixels
        self.cut_to = min(self.cut_to or half_side, half_side)
        for half in halves:
            yield from self._parts(level, half, pixels, reads)

    def _own(self, part: Tensor) -> Tensor:
        return part.contiguous(memory_format=self.layout)
