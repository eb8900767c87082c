"""The tensors that a pickle of torch.save describes: which bytes of which storage, unread."""

from math import prod
from typing import Any, NamedTuple

import torch

from taesd_ext.weights.inert_pickle import BadFile, Noted, Storage, is_module

_MOST_DIMENSIONS = 16
_DEEPEST_PROGRAM = 32
_MOST_WRAPPERS = 4

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
            raise BadFile("a tensor has an impossible size")
        if len(self.shape) != len(self.stride) or len(self.shape) > _MOST_DIMENSIONS:
            raise BadFile("a tensor has strides that do not fit its sizes")
        if self.span and (self.offset + self.span) * self.dtype.itemsize > length:
            raise BadFile(f"a tensor of {self.shape} lies outside its {length:,} bytes")


def named_tensors(root: Any) -> dict[str, StoredTensor]:
    """Those below "state_dict", else those of the dict itself, else those of the dicts in it; all of a program."""
    if is_module(root):
        return _of_program(root)
    root = _entries(root)
    root = _entries(root.get("state_dict")) or root
    if found := _tensors(root):
        return found
    # A dict that lies there under many names is looked at once.
    first = {id(value): name for name, value in reversed(root.items())}
    groups = {
        name: found
        for name, value in root.items()
        if first[id(value)] == name and (found := _tensors(_entries(value)))
    }
    if len(groups) == 1:
        return next(iter(groups.values()))
    return {f"{outer}.{name}": tensor for outer, group in groups.items() for name, tensor in group.items()}


def _of_program(root: Noted) -> dict[str, StoredTensor]:
    """A program's weights by their place in it; a module that lies there under many names is looked at once."""
    found: dict[str, StoredTensor] = {}
    left, seen = [("", root)], set()
    while left:
        prefix, module = left.pop()
        if id(module) in seen or prefix.count(".") > _DEEPEST_PROGRAM:
            continue
        seen.add(id(module))
        found |= {f"{prefix}{name}": tensor for name, tensor in _tensors(module).items()}
        left += [(f"{prefix}{name}.", value) for name, value in module.items() if is_module(value)]
    return found


def _entries(value: Any) -> dict[str, Any]:
    match value:
        case Noted(function="collections.OrderedDict", arguments=([*pairs],)):  # as Python 2 gave them
            pairs = (pair for pair in pairs if isinstance(pair, (list, tuple)) and len(pair) == 2)
            return {key: item for key, item in pairs if isinstance(key, str)}
        case Noted():
            return value
    return {}


def _tensors(group: dict[str, Any]) -> dict[str, StoredTensor]:
    return {name: found for name, value in group.items() if (found := _tensor(value))}


def _tensor(value: Any) -> StoredTensor | None:
    """What this call makes, where it makes a plain tensor."""
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(value, Noted):
            break
        match value.function, value.arguments:
            case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (data, *_):
                value = data
            case "torch._tensor._rebuild_from_type_v2", (str(function), _, arguments, *_):  # it has attributes
                value = Noted(function, arguments)
            case (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                (Storage() as storage, offset, shape, stride, *_),
            ):
                return StoredTensor(storage, offset, shape, stride, storage.dtype)
            case "torch._utils._rebuild_tensor_v3", (Storage() as storage, offset, shape, stride, _, _, str(kind), *_):
                dtype = vars(torch).get(kind.removeprefix("torch."))
                return StoredTensor(storage, offset, shape, stride, dtype) if isinstance(dtype, torch.dtype) else None
            case _:
                return None
    return None
