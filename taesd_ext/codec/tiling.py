"""Big pictures in exact tiles: the same result as at once, in a bounded amount of memory.

Unlike blended tiles, these leave no seam to hide: each tile is computed with all that its convolutions read around it,
and only what is right is kept. The plan is made in tile_plan.py; here it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from taesd_ext.codec.tile_plan import (
    LEAST_POSITIONS,
    Cut,
    Level,
    Piece,
    Rect,
    Span,
    Step,
    cut_to_bytes,
    cut_to_pixels,
    is_whole,
    piece_work,
    plan_decode,
    plan_encode,
    total_work,
)
from taesd_ext.errors import TaesdError
from taesd_ext.models.fast import Doubling, FastBlock, FastClamp, FastDecoder, FastEncoder, FastNetwork
from taesd_ext.models.student import Head

TileChoice = int | Literal["auto", "off"]
"""Side of a tile in pixels; "auto": only what would take more than :data:`WHOLE_BYTES`; "off": never."""

Progress = Callable[[float], None]
"""Told after each tile which part of the work is done, up to 1. What it raises stops the work."""

WHOLE_BYTES = 512 << 20
"""A picture whose largest step takes no more is done at once: 836x836 in float32, 1182x1182 in half precision."""

PIECE_BYTES = 128 << 20
"""What a step of a bigger picture may take. The coarser steps of the same tile stay in memory beside it."""

SMALL_INPUT = 20480
"""Numbers in a convolution's input up to which torch does it without the CPU's library (ATen's Convolution.cpp,
use_mkldnn), in another order: no piece may come below it where the whole picture is above."""

TENSORS_AT_ONCE = 3
"""A residual block holds its input, one convolution's input and its output."""

_POINTWISE = (nn.ReLU, FastClamp)


def levels_of(layers: Sequence[nn.Module], scale: int, itemsize: int) -> list[tuple[Level, list[nn.Module]]]:
    """Cut layers into levels of one resolution: before each doubling, after each halving.

    ``scale``: image pixels per position of the first layer's input.
    """
    levels: list[tuple[Level, list[nn.Module]]] = []
    own: list[nn.Module] = []

    def close() -> None:
        if own:
            levels.append((_level(own, scale, itemsize), list(own)))
            own.clear()

    for layer in layers:
        kind, _ = _step(layer)
        if kind == "double":
            close()
            scale //= 2
        own.append(layer)
        if kind == "halve":
            close()
            scale *= 2
    close()
    return levels


def _level(layers: Sequence[nn.Module], scale: int, itemsize: int) -> Level:
    convolutions = [m for layer in layers for m in layer.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    narrowest = min((c.in_channels for c in convolutions), default=1)
    widest = max((max(c.in_channels, c.out_channels) for c in convolutions if max(c.kernel_size) > 1), default=3)
    return Level(
        steps=tuple(_step(layer) for layer in layers),
        scale=scale,
        bytes_per_position=TENSORS_AT_ONCE * widest * itemsize,
        work_per_position=max(1, sum(c.weight.numel() for c in convolutions)),
        least_positions=max(LEAST_POSITIONS, SMALL_INPUT // narrowest + 1),
    )


def _step(layer: nn.Module) -> Step:
    """What a layer does to positions; TaesdError for one that this file knows nothing of."""
    if isinstance(layer, FastBlock):
        return ("whole", 0) if layer.pool is not None else ("reach", 3)
    if isinstance(layer, Head):
        return ("reach", len(layer.hidden) + 1)
    if isinstance(layer, _POINTWISE):
        return ("reach", 0)
    if isinstance(layer, nn.PixelShuffle):
        return ("shuffle", layer.upscale_factor)
    if isinstance(layer, Doubling):
        return ("double", 1)
    if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] == 2 * layer.padding[0] + 1:
        if layer.stride == (1, 1):
            return ("reach", layer.padding[0])
        if (layer.stride, layer.padding) == ((2, 2), (1, 1)):
            return ("halve", 1)
    raise TaesdError(f"Cannot tile {type(layer).__name__}", "its reach is not known", 'Choose tile="off"')


@dataclass
class Sink:
    """Where results go: ``finish`` is applied to each part (it may write into it), then it is stored.

    The stored result is an ordinary tensor of ``dtype`` on ``device``, also in inference mode.
    """

    dtype: torch.dtype
    device: torch.device
    finish: Callable[[Tensor], Tensor] = lambda part: part
    progress: Progress | None = None

    def store(self, result: Tensor) -> Tensor:
        """A result in one piece."""
        result = self.finish(result)
        stored = self.empty(result.shape)
        stored.copy_(result)
        if self.progress:
            self.progress(1.0)
        return stored

    def empty(self, shape: Sequence[int]) -> Tensor:
        with torch.inference_mode(False):
            return torch.empty(shape, dtype=self.dtype, device=self.device)


def decode_in_tiles(layers: Sequence[nn.Module], latent: Tensor, scale: int, tile: TileChoice, sink: Sink) -> Tensor:
    """(B,C,h,w) -> (B,3,H,W) through a decoder's layers. ``scale``: image pixels per position of the latent."""
    job = _plan(layers, latent, scale, tile, plan_decode)
    if job is None:
        return sink.store(through(layers, latent, FastDecoder.layout(latent.device, latent.dtype)))
    return _Decode(job, sink, latent).run()


def encode_in_tiles(layers: Sequence[nn.Module], image: Tensor, tile: TileChoice, sink: Sink) -> Tensor:
    """(B,3,H,W) -> (B,C,h,w) through an encoder's layers."""
    job = _plan(layers, image, 1, tile, plan_encode)
    if job is None:
        return sink.store(through(layers, image, FastEncoder.layout(image.device, image.dtype)))
    return _Encode(job, sink, image).run()


def through(layers: Sequence[nn.Module], x: Tensor, layout: torch.memory_format) -> Tensor:
    """All layers over all of ``x``; each result is let go as soon as the next layer has read it."""
    x = x.contiguous(memory_format=layout)
    for layer in layers:
        x = layer(x)
    return x


def check_tile(tile: TileChoice) -> None:
    if tile not in ("auto", "off") and not (isinstance(tile, int) and tile > 0):
        raise TaesdError(f"Cannot use tiles of {tile!r}", 'a number of pixels, "auto" or "off" was expected')


@dataclass(frozen=True)
class _Job:
    levels: list[Level]
    layers: list[list[nn.Module]]
    plan: tuple[Piece, ...]


def _plan(
    layers: Sequence[nn.Module], x: Tensor, scale: int, tile: TileChoice, plan: Callable[..., tuple[Piece, ...]]
) -> _Job | None:
    """The job in pieces, or None where it is done at once."""
    check_tile(tile)
    if tile == "off":
        return None
    pairs = levels_of(layers, scale, x.element_size())
    levels = [level for level, _ in pairs]
    height, width = x.shape[-2:]
    if tile == "auto" and peak_bytes(levels, height, width) * len(x) <= WHOLE_BYTES:
        return None
    cut: Cut = cut_to_bytes(PIECE_BYTES) if tile == "auto" else cut_to_pixels(tile)
    pieces = plan(levels, height, width, cut)
    if is_whole(pieces) and len(x) == 1:
        return None
    return _Job(levels, [own for _, own in pairs], pieces)


def peak_bytes(levels: Sequence[Level], height: int, width: int) -> int:
    """What the level that needs most takes when an input of this size is done at once."""
    peak = 0
    for level in levels:
        peak = max(peak, level.positions(Rect.whole(height, width)) * level.bytes_per_position)
        height, width = level.length_after(height), level.length_after(width)
    return peak


class _Run:
    """A job under way: one picture of the batch after the other, piece by piece into one result."""

    network: type[FastNetwork]
    """Which kind of network the layers are of."""

    def __init__(self, job: _Job, sink: Sink, x: Tensor) -> None:
        self.job, self.sink, self.x = job, sink, x
        self.layout = self.network.layout(x.device, x.dtype)
        self.result: Tensor | None = None
        self.total = total_work(job.levels, job.plan) * len(x)
        self.done = 0

    def run(self) -> Tensor:
        for number in range(len(self.x)):
            for piece in self.job.plan:
                self.picture(number, piece)
        return self.result

    def picture(self, number: int, piece: Piece) -> None:
        raise NotImplementedError

    def compute(self, piece: Piece, part: Tensor) -> Tensor:
        """What the piece gives, from the part of its level's input that it reads."""
        result = through(self.job.layers[piece.level], part, self.layout)
        self.done += piece_work(self.job.levels, piece)
        return crop(result, piece.gives, self._place(piece))

    def store(self, number: int, place: Rect, part: Tensor) -> None:
        part = self.sink.finish(part)
        if self.result is None:
            height, width = self.x.shape[-2:]
            for level in self.job.levels:
                height, width = level.length_after(height), level.length_after(width)
            self.result = self.sink.empty((len(self.x), part.shape[1], height, width))
        inside(self.result[number : number + 1], place).copy_(part)
        if self.sink.progress:
            self.sink.progress(self.done / self.total)

    def _place(self, piece: Piece) -> Rect:
        level = self.job.levels[piece.level]
        return Rect(level.gives(piece.reads.rows), level.gives(piece.reads.columns))


class _Decode(_Run):
    """Coarse to fine: a piece's result is read by its parts, the last of which are parts of the image."""

    network = FastDecoder

    def picture(self, number: int, piece: Piece) -> None:
        latent = self.x[number : number + 1]
        self._visit(number, piece, latent, Rect.whole(*latent.shape[-2:]))

    def _visit(self, number: int, piece: Piece, x: Tensor, place: Rect) -> None:
        result = self.compute(piece, crop(x, piece.reads, place))
        if not piece.parts:
            self.store(number, piece.gives, result)
        for part in piece.parts:
            self._visit(number, part, result, piece.gives)


class _Encode(_Run):
    """Fine to coarse: what a piece reads is put together from its parts, the first of which read the image."""

    network = FastEncoder

    def picture(self, number: int, piece: Piece) -> None:
        self.store(number, piece.gives, self._made(number, piece))

    def _made(self, number: int, piece: Piece) -> Tensor:
        if not piece.parts:
            return self.compute(piece, inside(self.x[number : number + 1], piece.reads))
        gathered: Tensor | None = None
        for part in piece.parts:
            made = self._made(number, part)
            if gathered is None:
                shape = (1, made.shape[1], piece.reads.rows.length, piece.reads.columns.length)
                gathered = torch.empty(shape, dtype=made.dtype, device=made.device, memory_format=self.layout)
            crop(gathered, part.gives, piece.reads).copy_(made)
            del made
        return self.compute(piece, gathered)


def crop(x: Tensor, wanted: Rect, place: Rect) -> Tensor:
    """The ``wanted`` part of a tensor that lies at ``place`` of the whole; a view."""
    rows, columns = (Span(w.start - p.start, w.stop - p.start) for w, p in zip(wanted, place, strict=True))
    return inside(x, Rect(rows, columns))


def inside(x: Tensor, wanted: Rect) -> Tensor:
    return x[..., wanted.rows.start : wanted.rows.stop, wanted.columns.start : wanted.columns.stop]
