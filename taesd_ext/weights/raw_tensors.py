"""Tensors as stretches of bytes in a file: described and checked first, read afterwards, and only those asked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

_CHUNK = 2**20


class BadFile(ValueError):
    """What is wrong with a file, in words for a person, without the file's name."""


@dataclass(frozen=True)
class Stretch:
    """Bytes of a file; ``checksum`` is their CRC-32 where the file gives it."""

    start: int
    length: int
    checksum: int | None = None


@dataclass(frozen=True)
class RawTensor:
    """A tensor inside a stretch. ``stride`` and ``offset`` count elements, as in torch; None is contiguous."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stretch: Stretch
    stride: tuple[int, ...] | None = None
    offset: int = 0

    @property
    def span(self) -> int:
        """Elements from the first to the last one, gaps included."""
        if not prod(self.shape):
            return 0
        if self.stride is None:
            return prod(self.shape)
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    @property
    def byte_count(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def check(self) -> None:
        """Raises BadFile when it does not lie inside its stretch, or has more elements than bytes for them."""
        if any(not _is_size(size) for size in (*self.shape, *(self.stride or ()), self.offset)):
            raise BadFile("a tensor has a size that is no size")
        if len(self.shape) > _MOST_DIMENSIONS or (self.stride is not None and len(self.stride) != len(self.shape)):
            raise BadFile("a tensor has strides that do not fit its sizes")
        elements = prod(self.shape)
        if elements and (self.offset + self.span) * self.dtype.itemsize > self.stretch.length:
            raise BadFile(f"a tensor of {self.shape} lies outside its {self.stretch.length:,} bytes")
        if not elements <= self.span <= _MOST_SPREAD * elements:
            raise BadFile("a tensor uses its bytes many times over, or hardly any of them")


_MOST_DIMENSIONS = 16
_MOST_SPREAD = 16


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**48


def read_tensors(path: Path, tensors: Iterable[RawTensor]) -> list[Tensor]:
    """The tensors, each with memory of its own, contiguous, on the CPU. Raises BadFile and OSError."""
    with path.open("rb") as file:
        return [_read(file, tensor) for tensor in tensors]


def _read(file: IO[bytes], tensor: RawTensor) -> Tensor:
    tensor.check()
    if not tensor.span:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    width, stretch = tensor.dtype.itemsize, tensor.stretch
    if (tensor.offset + tensor.span) * width != stretch.length or tensor.offset:
        # A piece of a storage that others share: no more is read than this one needs.
        stretch = Stretch(stretch.start + tensor.offset * width, tensor.span * width)
    flat = torch.frombuffer(_bytes_of(file, stretch), dtype=torch.uint8).view(tensor.dtype)
    if tensor.stride is None:
        return flat.view(tensor.shape)
    return flat.as_strided(tensor.shape, tensor.stride).contiguous()


def _bytes_of(file: IO[bytes], stretch: Stretch) -> bytearray:
    file.seek(stretch.start)
    data = bytearray(stretch.length)
    view = memoryview(data)
    done = checksum = 0
    while done < stretch.length:
        got = file.readinto(view[done : done + _CHUNK])  # type: ignore[attr-defined]
        if not got:
            raise BadFile("it became shorter while it was read")
        if stretch.checksum is not None:
            checksum = zlib.crc32(view[done : done + got], checksum)
        done += got
    if stretch.checksum is not None and checksum != stretch.checksum:
        raise BadFile("its content does not fit its own checksum")
    return data
