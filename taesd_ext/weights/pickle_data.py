"""A pickle read as plain data: nothing is imported, called or created that the pickle names.

A pickle is a program for a small stack machine. This one runs only what builds dicts, lists, tuples, texts and
numbers. Where the program names a function, or calls one, there stands a Name or a Call in the result, for the reader
to understand or not. Names outside a short list end the reading: weights never need them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from typing import IO, Any, NamedTuple

from taesd_ext.weights.raw_tensors import BadFile

# A tensor takes 45 steps and 150 bytes, a whole SDXL checkpoint 110,000 steps.
_MOST_BYTES = 4 * 2**20
_MOST_STEPS = 500_000
_LONGEST_LINE = 256


class Name(NamedTuple):
    """A function or class that the pickle names; never imported."""

    module: str
    name: str


class Call(NamedTuple):
    """What would be a call of a function; never made."""

    function: Any
    arguments: Any


class Persistent(NamedTuple):
    """A reference to something outside of the pickle: with PyTorch, a storage."""

    reference: Any


_ORDERED_DICT = Name("collections", "OrderedDict")
_MARK = object()


def read_pickle(file: IO[bytes], allowed: Callable[[Name], bool]) -> Any:
    """The data of the pickle at the file's position, which is left behind its end. Raises BadFile."""
    return _Machine(file, allowed).run()


class _Machine:
    def __init__(self, file: IO[bytes], allowed: Callable[[Name], bool]) -> None:
        self._file = file
        self._allowed = allowed
        self._left = _MOST_BYTES
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        try:
            for _ in range(_MOST_STEPS):
                code = self._read(1)
                if code == b".":
                    return self._stack.pop()
                step = _STEPS.get(code)
                if step is None:
                    raise BadFile("its pickle does what no weights need")
                step(self)
        except (IndexError, KeyError, TypeError, AttributeError, ValueError, struct.error) as error:
            raise error if isinstance(error, BadFile) else BadFile("its pickle is damaged") from error
        raise BadFile("its pickle has no end")

    def _read(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise BadFile("its pickle is too long")
        data = self._file.read(count)
        if len(data) != count:
            raise BadFile("its pickle is cut off")
        return data

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._read(struct.calcsize(form)))[0]

    def _line(self) -> str:
        line = bytearray()
        while (byte := self._read(1)) != b"\n":
            line += byte
            if len(line) > _LONGEST_LINE:
                raise BadFile("its pickle is damaged")
        return line.decode()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise BadFile("its pickle is damaged")
        values = self._stack[position + 1 :]
        del self._stack[position:]
        return values

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise BadFile("its pickle is damaged")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Other keys may be built so that their hash takes for ever.
            if not isinstance(key, (str, int, float, bytes, type(None))):
                raise BadFile("its pickle has a key that is no text")
            if isinstance(target, dict):
                target[key] = value

    def _extend(self, values: Collection[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadFile("its pickle is damaged")
        found = Name(module, name)
        if not self._allowed(found):
            asked = ascii(f"{module[:60]}.{name[:60]}")[1:-1]
            raise BadFile(f"its pickle asks for {asked}, which no weights need: it may be an attack")
        self._push(found)

    def _call(self) -> None:
        function, arguments = self._last(2)
        if function == _ORDERED_DICT:
            self._push({})
        else:
            self._push(Call(function, arguments))

    def _memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _named_from_stack(self) -> None:
        self._name(*self._last(2))


def _pushes(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(value)


def _text(form: str, encoding: str = "utf-8") -> Callable[[_Machine], None]:
    return lambda machine: machine._push(machine._read(machine._number(form)).decode(encoding))


def _data(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(machine._read(machine._number(form)))


# The pickle format's own codes; numbers little endian, but for floats.
_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda machine: machine._read(1),  # PROTO
    b"\x95": lambda machine: machine._read(8),  # FRAME
    b"N": _pushes(None), b"\x88": _pushes(True), b"\x89": _pushes(False),
    b"(": _pushes(_MARK), b")": _pushes(()),
    b"}": lambda machine: machine._push({}), b"]": lambda machine: machine._push([]),
    b"J": lambda machine: machine._push(machine._number("<i")),
    b"K": lambda machine: machine._push(machine._number("<B")),
    b"M": lambda machine: machine._push(machine._number("<H")),
    b"G": lambda machine: machine._push(machine._number(">d")),
    b"\x8a": lambda machine: machine._push(int.from_bytes(machine._read(machine._number("<B")), "little", signed=True)),
    b"X": _text("<I"), b"\x8c": _text("<B"), b"T": _text("<I", "latin-1"), b"U": _text("<B", "latin-1"),
    b"B": _data("<I"), b"C": _data("<B"),
    b"q": lambda machine: machine._memoize(machine._number("<B")),
    b"r": lambda machine: machine._memoize(machine._number("<I")),
    b"\x94": lambda machine: machine._memoize(len(machine._memo)),
    b"h": lambda machine: machine._push(machine._memo[machine._number("<B")]),
    b"j": lambda machine: machine._push(machine._memo[machine._number("<I")]),
    b"t": lambda machine: machine._push(tuple(machine._since_mark())),
    b"\x85": lambda machine: machine._push(tuple(machine._last(1))),
    b"\x86": lambda machine: machine._push(tuple(machine._last(2))),
    b"\x87": lambda machine: machine._push(tuple(machine._last(3))),
    b"l": lambda machine: machine._push(machine._since_mark()),
    b"a": lambda machine: machine._extend(machine._last(1)),
    b"e": lambda machine: machine._extend(machine._since_mark()),
    b"s": lambda machine: machine._set(machine._last(2)),
    b"u": lambda machine: machine._set(machine._since_mark()),
    b"c": lambda machine: machine._name(machine._line(), machine._line()),
    b"\x93": _Machine._named_from_stack,
    b"R": _Machine._call, b"\x81": _Machine._call,
    b"b": lambda machine: machine._last(1),  # BUILD: the state of an object, such as an OrderedDict's _metadata
    b"0": lambda machine: machine._last(1), b"1": lambda machine: machine._since_mark(),
    b"Q": lambda machine: machine._push(Persistent(machine._last(1)[0])),
}  # fmt: skip
