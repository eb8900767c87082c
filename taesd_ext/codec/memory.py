"""Memory that runs out: how every device says so, what is left, and doing a picture in smaller and smaller tiles."""

import re
from collections.abc import Callable
from typing import TypeVar

import torch

from taesd_ext.errors import log_once

Result = TypeVar("Result")

TILE_SIDES = (1024, 768, 512)
"""Pixels: the tiles that are tried one after the other when memory has run out."""

USABLE = 0.8
"""The part of a card's free memory that a picture may take: the rest is for fragments, and for libraries."""

_OUT_OF_MEMORY = re.compile(
    r"out of (\w+ )*memory|not enough (\w+ )*memory|can(no|')t allocate memory|could not allocate tensor"
    r"|failed to allocate|alloc(ation)?_?fail|out_of_(resources|((device|host)_)?memory)|outof(device|host)?memory"
    r"|resource_exhausted|invalid buffer size|bad_alloc|paging file is too small",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out, on whichever device. An error's cause counts too."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
            return True
        if isinstance(error, (RuntimeError, OSError)) and _OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__
    return False


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be taken on a card, torch's own cache included; None where nobody can say."""
    module = {"cuda": torch.cuda, "xpu": getattr(torch, "xpu", None)}.get(device.type)
    try:
        free, _ = module.mem_get_info(device)
        return free + module.memory_reserved(device) - module.memory_allocated(device)
    except (AttributeError, RuntimeError):  # no such card, an older torch, or a driver that does not tell
        return None


def in_less_memory(work: Callable[[object], Result], tile: object) -> Result:
    """``work(tile)``; for "auto", when memory runs out, in tiles of :data:`TILE_SIDES` one after the other."""
    sides = iter(TILE_SIDES if tile == "auto" else ())
    while True:
        try:
            return work(tile)
        except Exception as error:
            tile = next(sides, None)
            if tile is None or not is_out_of_memory(error):
                raise
        log_once("less memory", f"Not enough memory for the whole picture: trying tiles of {tile} pixels.")
