"""Progress bars for whatever takes longer than a moment, on a terminal's stderr; elsewhere they are silent."""

import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

DELAY = 1.0
"""Seconds before a bar appears, since what is done by then needs none, and between two moves of its clock."""

T = TypeVar("T")


@contextmanager
def repeating(work: Callable[[], None], seconds: float) -> Iterator[None]:
    """Do it every so many seconds in a thread of its own, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _bar(title: str, total: float | None, **options: Any) -> Iterator[Callable[[float], None]]:
    """A bar that goes away at the end: tell it what is done. Its clock goes on during a single long step."""
    lock = threading.Lock()

    def tell(more: float) -> None:
        with lock:
            bar.update(more)

    shown = {"file": sys.stderr, "disable": None, "delay": DELAY, "leave": False, "miniters": 0}
    with tqdm(desc=title, total=total, **shown, **options) as bar, repeating(lambda: tell(0), DELAY):
        yield tell


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Around what cannot tell how far it is: a clock."""
    with _bar(title, None, bar_format="{desc}: {elapsed}"):
        yield


def progress(items: Iterable[T], total: int, title: str, unit: str = "file") -> Iterator[T]:
    """The items, with a bar that counts them."""
    with _bar(title, total, unit=unit) as tell:
        for item in items:
            yield item
            tell(1)


def run_with_progress(work: Generator[float, None, T], title: str) -> T:
    """Run a piece of work that yields the share that is done; what it returns."""
    done = 0.0
    with _bar(title, 1.0, bar_format="{l_bar}{bar}| {elapsed}<{remaining}") as tell:
        while True:
            try:
                share = min(1.0, next(work))  # a sum of steps may pass 1 by rounding
            except StopIteration as end:
                return end.value
            tell(max(0.0, share - done))
            done = max(done, share)


@contextmanager
def download_progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of bytes: tell it (bytes done, of how many) of one file after the other."""
    with tqdm(desc=title, unit="B", unit_scale=True, file=sys.stderr, leave=False, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
