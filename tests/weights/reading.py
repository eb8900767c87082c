"""Weight files read whole, and refused in one line."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from taesd_ext.errors import TaesdError
from taesd_ext.weights.inert_pickle import BadFile
from taesd_ext.weights.tensor_file import open_tensor_file

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
"""The entry of one float32 number in a safetensors header."""


def read_all(path: Path) -> dict[str, Tensor]:
    file = open_tensor_file(path)
    return file.load(list(file.shapes))


def assert_read_as(path: Path, expected: dict[str, Tensor]) -> None:
    """To the bit, in its own type."""
    found = read_all(path)
    assert open_tensor_file(path).shapes == {name: tuple(value.shape) for name, value in expected.items()}
    for name, value in found.items():
        assert value.dtype == expected[name].dtype
        assert value.is_contiguous()
        assert torch.equal(value.reshape(-1).view(torch.uint8), expected[name].detach().reshape(-1).view(torch.uint8))


def assert_refused(path: Path, reason: type[Exception] = BadFile) -> str:
    """The one line of the refusal: ``UnusableFile`` for what is sound, ``BadFile`` for what is not."""
    with pytest.raises(TaesdError) as caught:
        read_all(path)
    line = str(caught.value)
    assert type(caught.value.__cause__) is reason, line
    assert "\n" not in line
    assert path.name in line
    return line


def header(content: object, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file; ``length`` is what it claims of its header."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


def repack(path: Path, change: dict[str, bytes] | None = None, **options: int) -> None:
    """Write a zip-format file again with other members: end of a name -> content."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            others = (other for end, other in (change or {}).items() if name.endswith(end))
            archive.writestr(name, next(others, content))
