"""The tile plan in whole numbers: it covers the result once, and each piece reads all that it depends on."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taesd_ext.codec.tile_plan import (
    LEAST_POSITIONS,
    Level,
    Piece,
    Rect,
    Span,
    cut_to_bytes,
    cut_to_pixels,
    is_whole,
    plan_decode,
    plan_encode,
    total_work,
)

# An 8x decoder (three blocks of reach 3 at each size) and the encoder that mirrors it.
REACH9, DOUBLE, HALVE = ("reach", 9), ("double", 1), ("halve", 1)
COST = {"bytes_per_position": 768, "work_per_position": 1000}
DECODER = [
    Level((("reach", 10),), 8, **COST),
    Level((DOUBLE, REACH9), 4, **COST),
    Level((DOUBLE, REACH9), 2, **COST),
    Level((DOUBLE, ("reach", 4)), 1, **COST),
]
ENCODER = [
    Level((("reach", 4), HALVE), 1, **COST),
    Level((REACH9, HALVE), 2, **COST),
    Level((REACH9, HALVE), 4, **COST),
    Level((("reach", 10),), 8, **COST),
]

sides = st.integers(1, 90)
cuts = st.one_of(
    st.integers(2, 64).map(lambda megabytes: cut_to_bytes(megabytes << 20)),
    st.integers(50, 700).map(cut_to_pixels),
)


def covered(rects: list[Rect]) -> dict[tuple[int, int], int]:
    """How often each 8x8 corner grid point is covered; enough to see gaps and overlaps of rectangles."""
    rows = sorted({edge for rect in rects for edge in rect.rows})
    columns = sorted({edge for rect in rects for edge in rect.columns})
    return {
        (top, left): sum(r.rows.start <= top < r.rows.stop and r.columns.start <= left < r.columns.stop for r in rects)
        for top, left in itertools.product(rows[:-1], columns[:-1])
    }


def leaves(plan) -> list[Piece]:
    return [piece for top in plan for piece in top.walk() if not piece.parts]


@settings(deadline=None, max_examples=30)
@given(height=sides, width=sides, cut=cuts)
def test_a_decode_covers_the_image_once_and_hands_down_what_is_read(height, width, cut):
    plan = plan_decode(DECODER, height, width, cut)
    image = [piece.gives for piece in leaves(plan)]
    assert set(covered(image).values()) == {1}
    assert sum(rect.area for rect in image) == height * width * 64
    for top in plan:
        for piece in top.walk():
            for part in piece.parts:
                for given_span, read in zip(piece.gives, part.reads, strict=True):
                    assert given_span.start <= read.start
                    assert read.stop <= given_span.stop


@settings(deadline=None, max_examples=30)
@given(height=sides, width=sides, cut=cuts)
def test_an_encode_puts_each_input_together_from_parts_that_fit(height, width, cut):
    plan = plan_encode(ENCODER, 8 * height, 8 * width, cut)
    assert set(covered([piece.gives for piece in plan]).values()) == {1}
    for top in plan:
        for piece in top.walk():
            if piece.parts:
                parts = [part.gives for part in piece.parts]
                assert sum(rect.area for rect in parts) == piece.reads.area
                assert set(covered(parts).values()) == {1}


@settings(deadline=None, max_examples=30)
@given(height=sides, width=sides, cut=cuts)
def test_no_piece_is_so_small_that_the_order_of_sums_changes(height, width, cut):
    whole = plan_decode(DECODER, height, width, cut_to_bytes(1 << 60))
    floor = {piece.level: DECODER[piece.level].positions(piece.reads) for piece in whole[0].walk()}
    for top in plan_decode(DECODER, height, width, cut):
        for piece in top.walk():
            positions = DECODER[piece.level].positions(piece.reads)
            assert positions >= min(LEAST_POSITIONS, floor[piece.level])


@pytest.mark.parametrize("steps", [level.steps for level in DECODER + ENCODER] + [(("reach", 2), ("shuffle", 2))])
@settings(deadline=None, max_examples=50)
@given(length=st.integers(1, 60), data=st.data())
def test_a_piece_reads_all_that_it_depends_on_and_little_more(steps, length, data):
    level = Level(steps)
    after = level.length_after(length)
    start = data.draw(st.integers(0, after - 1))
    wanted = Span(start, data.draw(st.integers(start + 1, after)))
    depends = {position for output in range(*wanted) for position in touched(steps, output, length)}
    read = level.reads(wanted, length)
    assert read.start <= min(depends)
    assert max(depends) < read.stop
    assert read.length <= max(depends) - min(depends) + 2
    gives = level.gives(read)
    assert gives.start <= wanted.start
    assert wanted.stop <= gives.stop


def touched(steps, output: int, length: int) -> set[int]:
    """Input positions that one output position depends on, by the layers' definitions and by brute force."""
    lengths = [length]
    for kind, amount in steps:
        lengths.append({"double": 2 * lengths[-1], "halve": (lengths[-1] + 1) // 2, "shuffle": amount * lengths[-1]}
                       .get(kind, lengths[-1]))  # fmt: skip
    now = {output}
    for (kind, amount), size in zip(reversed(steps), reversed(lengths[:-1]), strict=True):
        if kind == "reach":
            now = {p + d for p in now for d in range(-amount, amount + 1)}
        elif kind == "double":
            # Nearest neighbours of the three doubled positions under a 3-tap kernel.
            now = {(p + d) // 2 for p in now for d in (-1, 0, 1)}
        elif kind == "halve":
            now = {2 * p + d for p in now for d in (-1, 0, 1)}
        elif kind == "shuffle":
            now = {p // amount for p in now}
        now = {p for p in now if 0 <= p < size}
    return now


def test_tiles_of_the_tail_cost_little():
    whole = total_work(DECODER, plan_decode(DECODER, 512, 512, cut_to_bytes(1 << 60)))
    assert total_work(DECODER, plan_decode(DECODER, 512, 512, cut_to_bytes(128 << 20))) <= 1.12 * whole


def test_what_fits_is_not_cut():
    assert is_whole(plan_decode(DECODER, 64, 64, cut_to_bytes(1 << 30)))
    assert is_whole(plan_decode(DECODER, 64, 64, cut_to_pixels(512)))
    assert not is_whole(plan_decode(DECODER, 65, 64, cut_to_pixels(512)))


def test_a_level_that_reads_everything_is_never_cut():
    levels = [Level((("whole", 0),), 8, **COST), *DECODER[1:]]
    plan = plan_decode(levels, 80, 80, cut_to_bytes(1 << 18))
    assert len(plan) == 1
    assert plan[0].reads == Rect.whole(80, 80)


@settings(deadline=None)
@given(start=st.integers(0, 50), length=st.integers(1, 500), count=st.integers(1, 40), grain=st.integers(1, 32))
def test_a_span_splits_without_gaps(start, length, count, grain):
    parts = Span(start, start + length).split(count, grain)
    assert [parts[0].start, parts[-1].stop] == [start, start + length]
    assert all(part.length > 0 for part in parts)
    assert all(before.stop == after.start for before, after in itertools.pairwise(parts))
