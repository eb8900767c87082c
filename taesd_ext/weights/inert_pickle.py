"""A pickle of torch.save or torch.jit.save read as plain data: nothing that it names is imported, or called.

Python's own reader does the work. Its C twin, ``pickle.Unpickler``, is not used: its steps cannot be replaced, and it
allocates 64 GB for a memo place of four thousand million.
"""

import io
import pickle
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch

# A tensor takes 150 bytes and 80 reads, a whole SDXL checkpoint 0.4 MB and 200,000 reads.
LARGEST_PICKLE = 8 * 2**20
_MOST_READS = 600_000
# Python before 3.10.7 takes quadratic time for a number of many digits.
_LONGEST_LINE = 4096
_LONGEST_NAME = 1000

# Nothing is ever run; a file that asks for these is refused because other programs might run it.
_RUN_CODE = {"os", "posix", "nt", "subprocess", "pty", "runpy", "shutil", "socket", "importlib", "ctypes", "webbrowser"}
_RUN_CODE_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "__import__"}


_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8, "QUInt2x4Storage": torch.uint8,
}  # fmt: skip


class Storage(NamedTuple):
    """Bytes that lie beside the pickle, under ``key``."""

    dtype: torch.dtype
    key: str
    elements: int


class BadFile(ValueError):
    """What is wrong with a file, in words for a person, without the file's name."""


class UnusableFile(BadFile):
    """What a sound file holds that cannot be used here."""


class Noted(dict):  # type: ignore[type-arg]
    """A dict, a set, or what a call would have made: its entries, and the call.

    Only entries under texts are kept: to hash tuples of tuples takes for ever.
    """

    __slots__ = ("arguments", "function")

    def __init__(self, function: Any = None, arguments: Any = ()) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, str):
            super().__setitem__(key, value)

    def add(self, _: Any) -> None:
        """Of sets, and of classes made of a list, nothing is kept."""

    append = extend = add


def is_module(value: Any) -> bool:
    """Whether it is a module of a TorchScript program, whose classes are called so."""
    return isinstance(value, Noted) and str(value.function).startswith("__torch__.")


class PickleData(io.BytesIO):
    """The bytes of one pickle or more, whose reads are counted."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MOST_READS

    def read(self, count: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise UnusableFile("its pickle has more steps than any known weight file")
        return super().read(count)

    def readline(self, _: int | None = -1) -> bytes:
        return super().readline(_LONGEST_LINE)


class InertUnpickler(pickle._Unpickler):
    """Reads one pickle: names are texts, "module.name", and calls, dicts and sets are Noted.

    States are left out, but for those of a TorchScript program's modules, which are their weights.
    """

    def __init__(self, data: PickleData) -> None:
        super().__init__(data, encoding="latin-1")
        self.storages: dict[str, Storage] = {}
        """All that the pickle refers to."""

    def load(self) -> Any:
        """The pickle's content. Raises BadFile."""
        try:
            return super().load()
        except BadFile:
            raise
        except Exception as error:
            raise BadFile("its pickle is damaged") from error

    def find_class(self, module: str, name: str) -> Any:
        if len(module) + len(name) > _LONGEST_NAME:
            raise BadFile("its pickle is damaged")
        if module.split(".")[0] in _RUN_CODE or (
            module in ("builtins", "__builtin__") and name in _RUN_CODE_BUILTINS
        ):
            raise BadFile(f"it asks for {module}.{name}: it may be an attack")
        return f"{module}.{name}"

    def persistent_load(self, reference: Any) -> Any:
        match reference:
            case ("module", kind, *_):  # a class with its source text, which the older format stores so
                return kind
            case ("storage", str(kind), str(key), _, elements, *_) if len(reference) <= 6:
                if reference[5:] not in ((), (None,)):
                    raise UnusableFile("it was written by a PyTorch older than 0.4")
                dtype = _STORAGES.get(kind.rpartition(".")[2])
                return dtype and self.storages.setdefault(key, Storage(dtype, key, elements))
        raise BadFile("its pickle is damaged")

    def _note_call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(Noted(function, arguments))

    def _keep_attributes(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if is_module(made) and isinstance(state, Noted):
            made.update(state)

    def _note_call_by_names(self) -> None:
        self.stack.pop()
        self._note_call()

    def _instantiate(self, function: Any, arguments: Any) -> None:
        self.append(Noted(function, arguments))

    def _leave_out(self) -> None:
        """A frozen set, and a dict with its entries, which no program writes in one step."""
        self.pop_mark()  # type: ignore[attr-defined]
        self.append(Noted())

    def _refuse(self) -> NoReturn:
        """What an extension code stands for is looked up in this very program."""
        raise BadFile("its pickle does what no weights need")

    _python: ClassVar = pickle._Unpickler.dispatch
    dispatch: ClassVar = {
        **_python,
        **dict.fromkeys((pickle.REDUCE[0], pickle.NEWOBJ[0]), _note_call),
        pickle.NEWOBJ_EX[0]: _note_call_by_names,
        **dict.fromkeys((pickle.EMPTY_DICT[0], pickle.EMPTY_SET[0]), lambda self: self.append(Noted())),
        **dict.fromkeys((pickle.DICT[0], pickle.FROZENSET[0]), _leave_out),
        **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), _refuse),
        pickle.BUILD[0]: _keep_attributes,
        # Frames only say how much may be read at once.
        pickle.FRAME[0]: lambda self: self.read(8),
        # Python's own step allocates what this one claims before it reads.
        pickle.BYTEARRAY8[0]: _python[pickle.BINBYTES8[0]],
    }
