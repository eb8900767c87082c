"""A pickle read as plain data: nothing that it names is imported, called or given a state.

Python's own reader does the work. Its C twin, ``pickle.Unpickler``, is not used: it allocates 64 GB for a memo place of
four thousand million, and cannot be kept from hashing keys, which takes for ever with tuples of tuples.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

# A tensor takes 150 bytes and 80 reads, a whole SDXL checkpoint 0.4 MB and 200,000 reads.
LARGEST_PICKLE = 8 * 2**20
_MOST_READS = 600_000
# Python before 3.10.7 takes quadratic time for a number of many digits.
_LONGEST_LINE = 4096

# Nothing is ever run; a file that asks for these is refused because other programs might run it.
_RUN_CODE = {"os", "posix", "nt", "subprocess", "pty", "runpy", "shutil", "socket", "importlib", "ctypes", "webbrowser"}
_RUN_CODE_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "__import__"}


class BadFile(ValueError):
    """What is wrong with a file, in words for a person, without the file's name."""


class UnusableFile(BadFile):
    """What a sound file holds that cannot be used here."""


class Inert(dict):  # type: ignore[type-arg]
    """Stands for anything that a pickle names: takes every argument and keeps nothing but entries."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Inert:
        return dict.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __call__(self, *_: object, **__: object) -> Inert:
        return Inert()

    def append(self, _: object) -> None:
        """Of a list's subclass nothing is kept."""

    extend = append


class PickleData(io.BytesIO):
    """The bytes of one pickle or more, of which each read is counted and must be whole."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MOST_READS

    def read(self, count: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise BadFile("its pickle has more steps than any known weight file")
        data = super().read(count)
        if count is not None and len(data) != count:
            raise BadFile("its pickle is cut off")
        return data

    def readline(self, _: int | None = -1) -> bytes:
        return super().readline(_LONGEST_LINE)


class InertUnpickler(pickle._Unpickler):
    """Reads one pickle.

    ``stand_in`` gives what stands for a name of a module (called with the pickle's arguments if it is called there),
    None for nothing known; ``persistent`` what stands for a reference to something outside of the pickle. Neither may
    do harm with any argument. Entries of dicts whose key is no text are left out, sets are empty, states are not set.
    """

    def __init__(
        self, data: PickleData, stand_in: Callable[[str, str], Any], persistent: Callable[[Any], Any]
    ) -> None:
        super().__init__(data, encoding="latin-1")
        self._stand_in = stand_in
        self._persistent = persistent
        self.names: dict[str, None] = {}
        """What the pickle named and nothing stands for, as "module.name", in its order."""

    def load(self) -> Any:
        """The pickle's content. Raises BadFile."""
        try:
            return super().load()
        except BadFile:
            raise
        except (Exception, RecursionError) as error:
            raise BadFile("its pickle is damaged") from error

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in _RUN_CODE or (
            module in ("builtins", "__builtin__") and name in _RUN_CODE_BUILTINS
        ):
            raise BadFile(f"it asks for {module}.{name}: it may be an attack")
        if (known := self._stand_in(module, name)) is not None:
            return known
        self.names[f"{module}.{name}"[:200]] = None
        return Inert

    def persistent_load(self, reference: Any) -> Any:
        return self._persistent(reference)

    def _set_entries(self, entries: list[Any]) -> None:
        target = self.stack[-1]  # type: ignore[has-type]
        if not isinstance(target, dict):
            raise BadFile("its pickle is damaged")
        pairs = zip(entries[::2], entries[1::2], strict=True)
        target.update((key, value) for key, value in pairs if isinstance(key, str))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_entries([key, value])

    def _set_items(self) -> None:
        self._set_entries(self.pop_mark())  # type: ignore[attr-defined]

    def _dict(self) -> None:
        entries = self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append({})
        self._set_entries(entries)

    def _frozen_set(self) -> None:
        self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append(Inert())

    def _refuse(self) -> NoReturn:
        raise BadFile("its pickle does what no weights need")

    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.EMPTY_SET[0]: lambda self: self.stack.append(Inert()),
        pickle.ADDITEMS[0]: lambda self: self.pop_mark(),
        pickle.FROZENSET[0]: _frozen_set,
        pickle.BUILD[0]: lambda self: self.stack.pop(),
        # Frames only say how much may be read at once.
        pickle.FRAME[0]: lambda self: self.read(8),
        # Python's own reader allocates what this one claims before it reads.
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
        **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), _refuse),
    }
