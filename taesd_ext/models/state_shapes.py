"""What the shapes in a tiny network's state dict tell of its structure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes in a network's state dict."""

Arguments = dict[str, Any]
"""What a network's class is called with."""

_MOST = 16
"""Layers that change the size: the published networks have at most 7."""


class PlainConv(NamedTuple):
    """A convolution that is itself a layer of a ``Sequential``."""

    index: int
    channels_out: int
    channels_in: int
    kernel: int
    bias: bool


def plain_convs(shapes: Shapes) -> list[PlainConv]:
    """The convolutions among a ``Sequential``'s own layers, in their order."""
    found = []
    for key, shape in shapes.items():
        index, _, rest = key.partition(".")
        if rest == "weight" and index.isdecimal() and len(shape) == 4:
            found.append(PlainConv(int(index), shape[0], shape[1], shape[3], f"{index}.bias" in shapes))
    return sorted(found) if len(found) <= _MOST else []


def frame_counts(shapes: Shapes) -> tuple[int, ...]:
    """How many frames each layer that joins or splits them takes or makes, in order; none where that is no number."""
    found = []
    for key, shape in shapes.items():
        index, _, rest = key.partition(".")
        if rest == "conv.weight" and index.isdecimal() and len(shape) == 4:
            least, most = sorted(shape[:2])
            found.append((int(index), most // least if least and most % least == 0 else 0))
    counts = tuple(count for _, count in sorted(found))
    return counts if all(counts) and len(found) <= _MOST else ()


def chain(shapes: Shapes, start: int, biased: int = 1) -> tuple[list[PlainConv], tuple[int, ...]] | None:
    """The plain convolutions of one of these networks, and the widths of its stages, in their order.

    They begin at layer ``start``. The first ``biased`` of them and the last have biases; those between, which change
    the size, have none. None where it is otherwise, and for a network that joins or splits frames.
    """
    convs = plain_convs(shapes)
    if any(key.count(".") == 2 and key.endswith(".conv.weight") for key in shapes):
        return None
    expected = [True] * biased + [False] * (len(convs) - biased - 1) + [True]
    if len(convs) <= biased or convs[0].index != start or [conv.bias for conv in convs] != expected:
        return None
    return convs, tuple(conv.channels_out for conv in convs[:-1])
