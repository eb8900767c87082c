"""The tensors that a pickle of torch.save describes: which bytes of which storage, unread."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch

from taesd_ext.weights.inert_pickle import BadFile, Inert, InertUnpickler, PickleData, UnusableFile

_MOST_DIMENSIONS = 16

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8, "QUInt2x4Storage": torch.uint8,
}  # fmt: skip


class Storage(NamedTuple):
    """A stretch of bytes that lies beside the pickle, under ``key``."""

    dtype: torch.dtype
    key: str
    elements: int


class StoredTensor(NamedTuple):
    """A tensor as the pickle describes it: nothing of it is checked. ``offset`` and ``stride`` count elements."""

    storage: Storage
    offset: Any
    shape: Any
    stride: Any
    dtype: torch.dtype

    @property
    def byte_count(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def span(self) -> int:
        """Elements from the first to the last one, gaps included."""
        if not all(self.shape):
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    def check(self, length: int | None) -> None:
        """Raises BadFile when it does not lie inside its storage of so many bytes."""
        if length is None:
            raise BadFile("it lacks the bytes of a tensor: it is cut off")
        if type(self.storage.elements) is not int or self.storage.elements * self.storage.dtype.itemsize != length:
            raise BadFile("a tensor's claimed size does not fit its bytes")
        if not isinstance(self.shape, tuple) or not isinstance(self.stride, tuple):
            raise BadFile("its pickle is damaged")
        if any(type(size) is not int or not 0 <= size < 2**48 for size in (*self.shape, *self.stride, self.offset)):
            raise BadFile("a tensor has a size that is no size")
        if len(self.shape) != len(self.stride) or len(self.shape) > _MOST_DIMENSIONS:
            raise BadFile("a tensor has strides that do not fit its sizes")
        if self.span and (self.offset + self.span) * self.dtype.itemsize > length:
            raise BadFile(f"a tensor of {self.shape} lies outside its {length:,} bytes")


def _rebuilt(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    is_storage = isinstance(storage, Storage)
    return StoredTensor(storage, offset, shape, stride, storage.dtype) if is_storage else Inert()


def _rebuilt_v3(storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Any:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        return Inert()
    return StoredTensor(storage, offset, shape, stride, dtype)


def _rebuilt_subclass(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """A tensor with attributes, such as a parameter with a note."""
    return _rebuilt(*arguments) if function is _rebuilt else Inert()


def _ordered_dict(pairs: Any = ()) -> dict[str, Any]:
    """Python 2 gave an OrderedDict its entries as a list."""
    return {key: value for key, value in pairs if isinstance(key, str)}


_REBUILD = {
    "_rebuild_tensor": _rebuilt,
    "_rebuild_tensor_v2": _rebuilt,
    "_rebuild_tensor_v3": _rebuilt_v3,
    "_rebuild_parameter": lambda data, *_: data,
    "_rebuild_parameter_with_state": lambda data, *_: data,
    "_rebuild_from_type_v2": _rebuilt_subclass,
}


def _stand_in(module: str, name: str) -> Any:
    if module in ("torch._utils", "torch._tensor"):
        return _REBUILD.get(name)
    if module in ("torch", "torch.storage", "torch.cuda"):
        known = _STORAGES.get(name) or vars(torch).get(name)
        return known if isinstance(known, torch.dtype) else None
    return _ordered_dict if (module, name) == ("collections", "OrderedDict") else None


class TorchUnpickler(InertUnpickler):
    """Reads a pickle of torch.save; tensors are StoredTensor, ``storages`` all that it refers to."""

    def __init__(self, data: PickleData) -> None:
        super().__init__(data, _stand_in, self._storage)
        self.storages: dict[str, Storage] = {}

    def _storage(self, reference: Any) -> Any:
        if not isinstance(reference, tuple) or len(reference) < 4:
            raise BadFile("its pickle is damaged")
        if reference[0] == "module":
            # A class with its source text, which the older format stores so.
            return reference[1]
        if reference[0] != "storage" or len(reference) < 5:
            raise BadFile("its pickle is damaged")
        _, dtype, key, _, elements, *view = reference
        if view and view[0] is not None:
            raise UnusableFile("it was written by a PyTorch older than 0.4")
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            return Inert()
        return self.storages.setdefault(key, Storage(dtype, key, elements))
