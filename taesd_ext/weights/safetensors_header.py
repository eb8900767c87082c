"""The header of a ``.safetensors`` file, checked before anything of the size that it claims is allocated.

The file is: length of the header (8 bytes, little endian), header (JSON), the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import torch

from taesd_ext.weights.raw_tensors import BadFile, RawTensor, Stretch

# The header of an 8 GB checkpoint has about 0.3 MB.
_LARGEST_HEADER = 4 * 2**20
_MOST_TENSORS = 20_000
_MOST_DIGITS = 15

_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, theirs)
    for name, theirs in {
        "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
        "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
        "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    }.items()
    if hasattr(torch, theirs)
}  # fmt: skip


def read_safetensors(path: Path, size: int) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """Tensors by name, unread, and the metadata. Raises BadFile."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_LARGEST_HEADER, size - 8):
            raise BadFile("it is neither a safetensors file nor a PyTorch file, or it is cut off")
        raw = file.read(length)
    try:
        header = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_without_doubles, parse_int=_short_int, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, BadFile) else "its header is damaged"
        raise BadFile(why) from error
    if not isinstance(header, dict):
        raise BadFile("its header is damaged")
    metadata = header.pop("__metadata__", None)
    if len(header) > _MOST_TENSORS:
        raise BadFile(f"it holds {len(header):,} tensors")
    tensors = {name: _tensor(entry, 8 + length, size) for name, entry in header.items()}
    _refuse_overlap(tensors, 8 + length, size)
    return tensors, _texts(metadata)


def _tensor(entry: Any, first: int, size: int) -> RawTensor:
    if not isinstance(entry, dict):
        raise BadFile("its header is damaged")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise BadFile(f"a tensor has the unknown type {str(dtype)[:20]!r}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise BadFile("its header is damaged")
    start, end = offsets
    if start > end or first + end > size:
        raise BadFile("a tensor lies outside the file: it is cut off")
    tensor = RawTensor(_DTYPES[dtype], tuple(shape), Stretch(first + start, end - start))
    if prod(shape) * tensor.dtype.itemsize != end - start:
        raise BadFile("a tensor's shape does not fit its bytes")
    return tensor


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 16 and all(type(value) is int and value >= 0 for value in values)


def _refuse_overlap(tensors: dict[str, RawTensor], first: int, size: int) -> None:
    position = first
    for start, length in sorted((tensor.stretch.start, tensor.stretch.length) for tensor in tensors.values()):
        if start != position:
            raise BadFile("its tensors overlap or leave gaps")
        position += length
    if position != size:
        raise BadFile("it has bytes that belong to no tensor")


def _texts(metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadFile("its metadata is damaged")
    return metadata


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two equal keys they take; an honest file has none."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadFile("its header names a tensor twice")
    return found


def _short_int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not digits.isdigit():
        raise BadFile("its header has a size that is no size")
    return int(digits)


def _no_constant(name: str) -> None:
    raise BadFile(f"its header holds {name}")
