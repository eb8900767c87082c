"""Texts read from an HDF5 file's bytes are those that its own library wrote there, and lies about them are refused."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taesd_ext.weights.hdf5_texts import LONGEST_TEXT, Hdf5Texts

h5py = pytest.importorskip("h5py", reason="needs the extra: keras")

TEXTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60), max_size=40)


def file_with(
    texts: list[str], libver: str = "earliest", around: int = 0, *, track_order: bool = False
) -> tuple[bytes, int]:
    """A file of a list among other attributes, and the address of the group that has them."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        group = file.create_group("layer", track_order=track_order)
        for number in range(around + 1):
            group.attrs[f"text {number}"] = "x" * 300 * number
            if number == around // 2:
                group.attrs.create("names", texts, (len(texts),), h5py.string_dtype())
        address = h5py.h5o.get_info(group.id).addr
    return buffer.getvalue(), address


def read(data: bytes, address: int, count: int) -> list[str]:
    return Hdf5Texts(io.BytesIO(data)).attribute(address, "names", count)


@settings(deadline=None)
@given(
    texts=TEXTS.filter(bool), libver=st.sampled_from(["earliest", "latest"]), around=st.integers(0, 6),
    track_order=st.booleans(),
)  # fmt: skip
def test_what_was_written_is_read(texts: list[str], libver: str, around: int, track_order: bool) -> None:
    assert read(*file_with(texts, libver, around, track_order=track_order), len(texts)) == texts


@pytest.mark.parametrize("claim", [900, LONGEST_TEXT + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_no_claim_of_a_length_is_believed(claim: int, libver: str) -> None:
    data, address = file_with(["one", "two"], libver)
    at = data.index(struct.pack("<IQ", 3, data.index(b"GCOL")))
    lying = data[:at] + struct.pack("<I", claim) + data[at + 4 :]
    with pytest.raises(ValueError, match=f"claims {claim:,} bytes" if claim > LONGEST_TEXT else "where it should be"):
        read(lying, address, 2)


def test_a_header_that_goes_on_in_itself_ends() -> None:
    """A continuation that points to its own block."""
    block = struct.pack("<HHB3xQQ", 0x10, 16, 0, 80, 24)
    start = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08\0" + bytes(32) + b"\xff" * 8 + bytes(8)
    data = start + struct.pack("<BBHII4x", 1, 0, 1, 1, len(block)) + block
    with pytest.raises(ValueError, match="too many"):
        read(data, len(start), 1)


def test_a_driver_of_its_own_is_refused() -> None:
    data, _ = file_with(["one"])
    with pytest.raises(ValueError, match="driver"):
        Hdf5Texts(io.BytesIO(data[:48] + struct.pack("<Q", 96) + data[56:]))


@pytest.mark.parametrize("size", [0, 20, 100, 900])
def test_a_cut_off_file_is_refused(size: int) -> None:
    data, address = file_with(["one"])
    with pytest.raises(ValueError, match=r"."):
        read(data[:size], address, 1)
