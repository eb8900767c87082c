"""Texts of variable length among the attributes of an HDF5 file, read from its bytes.

HDF5's own library believes what such a text claims as its length, up to 4 GB, and allocates and fills that much before
it looks whether the file has it. Here nothing is read that is not asked for, and only so much in all. Newer h5py
writes Keras' lists of layers in this form, older h5py as texts of one length.

Source of the layout: the HDF5 File Format Specification 3.0, II.A "Superblock", III.E "Global Heap", IV.A "Data Object
Headers".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

LONGEST_TEXT = 1_000

_MOST_BYTES = 2**23
"""Of one file; the lists of a tiny autoencoder and what stands between them are a hundredth of it."""
_LARGEST_BLOCK = 2**20  # of messages; an attribute has 64 KB at most
_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_SHARED = 0x02
_NOWHERE = b"\xff" * 8
_VARIABLE_TEXT = 9, 1
_POINTER = struct.Struct("<IQI")
"""What stands for a text: its length, the heap where it lies, its number there."""


class Hdf5Texts:
    """The texts of one file, opened as bytes. All methods raise ValueError, in words, for a damaged file.

    To make one before the library opens the file spares it one more claim of a size: a driver's.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MOST_BYTES
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        start = self._read(0, 64)
        old = start[8] < 2
        if (start[13:15] if old else start[9:11]) != b"\x08\x08":
            raise ValueError("its addresses and lengths have not 8 bytes each")
        driver_at = 48 + 4 * start[8]
        if old and start[driver_at : driver_at + 8] != _NOWHERE:
            raise ValueError("it has a block for a driver of its own, which may claim any size")

    def attribute(self, header: int, name: str, count: int) -> list[str]:
        """The ``count`` texts of an object's attribute; ``header`` is the object's address."""
        for kind, flags, content in self._messages(header):
            if kind == _ATTRIBUTE and not flags & _SHARED and (found := _attribute(content)) and found[0] == name:
                return [self._text(*pointer) for pointer in _POINTER.iter_unpack(_exactly(found[1], 16 * count))]
        raise ValueError(f"its list {name} is stored in a way that Keras does not use")

    def _read(self, at: int, length: int) -> bytes:
        self._left -= length
        if self._left < 0:
            raise ValueError("it holds too many texts and attributes")
        self._file.seek(min(at, 2**62))
        return _exactly(self._file.read(length), length)

    def _messages(self, header: int) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and content of each message of an object."""
        start = self._read(header, 16)
        if start[:4] == b"OHDR":
            flags = start[5]
            at = header + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks = [(at + width, int.from_bytes(self._read(at, width), "little"))]
            head = struct.Struct("<BHBH" if flags & 0x04 else "<BHB")
            around = 4, 4  # a continuation's signature, its checksum
        elif start[0] == 1:
            blocks = [(header + 16, int.from_bytes(start[8:12], "little"))]
            head = struct.Struct("<HHB3x")
            around = 0, 0
        else:
            raise ValueError("it holds an object without a header")
        for at, length in blocks:
            if length > _LARGEST_BLOCK:
                raise ValueError(f"an object in it claims a header of {length:,} bytes")
            block, position = self._read(at, length), 0
            while position + head.size <= len(block):
                kind, size, flags, *_ = head.unpack_from(block, position)
                position += head.size
                content = block[position : position + size]
                position += size
                if kind == _CONTINUATION:
                    at, length = struct.unpack("<QQ", _exactly(content[:16], 16))
                    blocks.append((at + around[0], max(0, length - sum(around))))
                else:
                    yield kind, flags, content

    def _text(self, length: int, heap: int, number: int) -> str:
        if length > LONGEST_TEXT:
            raise ValueError(f"one of its texts claims {length:,} bytes")
        if not length:
            return ""
        if heap not in self._heaps:
            self._heaps[heap] = self._heap(heap)
        at, size = self._heaps[heap].get(number, (0, 0))
        if size < length:
            raise ValueError("one of its texts is not where it should be")
        return self._read(at, length).rstrip(b"\0").decode()

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        """Where the objects of a heap are, and their lengths, by their numbers."""
        start = self._read(address, 16)
        if start[:4] != b"GCOL":
            raise ValueError("one of its texts is not where it should be")
        end = address + int.from_bytes(start[8:], "little")
        found: dict[int, tuple[int, int]] = {}
        at = address + 16
        while at + 16 <= end:
            number, size = struct.unpack("<H6xQ", self._read(at, 16))
            if not number:  # the rest is free
                break
            found[number] = at + 16, size
            at += 16 + (size + 7) // 8 * 8
        return found


def _attribute(message: bytes) -> tuple[str, bytes] | None:
    """Name and value of an attribute of texts of variable length; None for any other."""
    version, flags, name_size, type_size, space_size = struct.unpack("<BBHHH", _exactly(message[:8], 8))
    if version not in (1, 2, 3) or (version > 1 and flags):
        return None
    grain = 8 if version == 1 else 1
    name_at = 9 if version == 3 else 8
    type_at = name_at + -(-name_size // grain) * grain
    space_at = type_at + -(-type_size // grain) * grain
    value_at = space_at + -(-space_size // grain) * grain
    kind = message[type_at : type_at + 8]
    if len(kind) < 8 or (kind[0] & 15, kind[1] & 15) != _VARIABLE_TEXT:
        return None
    return message[name_at : name_at + name_size].split(b"\0")[0].decode(), message[value_at:]


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) < length:
        raise ValueError("it is cut off")
    return data[:length]
