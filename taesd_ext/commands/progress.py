"""Progress bars on stderr for whatever takes longer than a moment."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

DELAY = 1.0
"""Seconds before a bar appears: what is done by then needs none."""

T = TypeVar("T")


def progress(items: Iterable[T], total: int, title: str, unit: str = "file") -> Iterator[T]:
    """The items, with a bar that counts them and goes away at the end."""
    return iter(tqdm(items, title, total, unit=unit, file=sys.stderr, delay=DELAY, leave=False))


def run_with_progress(work: Generator[float, None, T], title: str) -> T:
    """Run a piece of work that yields the share that is done; what it returns."""
    form = "{l_bar}{bar}| {elapsed}<{remaining}"
    bar: Any = tqdm(None, title, 1.0, file=sys.stderr, delay=DELAY, leave=False, bar_format=form)
    with bar:
        while True:
            try:
                bar.n = min(1.0, max(bar.n, next(work)))  # a sum of steps may pass 1 by rounding
                bar.update(0)
            except StopIteration as end:
                return end.value


@contextmanager
def download_progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of bytes on a terminal, silent elsewhere: tell it (bytes done, of how many) of one file after the other."""
    with tqdm(desc=title, unit="B", unit_scale=True, file=sys.stderr, leave=False, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
