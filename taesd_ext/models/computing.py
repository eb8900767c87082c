"""How our networks compute inside a host: without gradients, and in their own precision."""

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch


@contextmanager
def computing(device: str | torch.device = "cpu") -> Iterator[None]:
    """No autograd graph, and none of a surrounding ``torch.autocast``. Also a decorator.

    Never ``torch.inference_mode``, on any device: DirectML cannot compute in it (microsoft/DirectML#602), and its
    tensors could not be used outside; where the host is in that mode, it is left for as long as we compute.
    """
    with torch.inference_mode(False), torch.no_grad(), ExitStack() as stack:
        for kind in {torch.device(device).type, "cpu"}:
            try:
                stack.enter_context(torch.autocast(kind, enabled=False))
            except (RuntimeError, AssertionError, AttributeError):  # this kind of device has no autocast
                continue
        yield


def return_freed_memory() -> None:
    """Give the system back what was freed and GNU's C library keeps, in some 20 ms."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
