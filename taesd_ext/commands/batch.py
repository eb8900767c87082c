"""Many files through one function: prefetched, skipped when done, reported at the end; here or on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from taesd_ext.commands.batch_ray import run_on_ray
from taesd_ext.commands.jobs import Job, Work, finish_job
from taesd_ext.commands.number_arguments import at_least_one
from taesd_ext.commands.outputs import already_there, try_to_write
from taesd_ext.commands.progress import progress

PREFETCH = 4
"""Files read ahead: enough to hide the disk, few enough to bound the memory."""
MOST_REPORTED = 20

T = TypeVar("T")


@dataclass
class Outcome:
    """What became of a batch."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def report(self, verb: str) -> int:
        """Say it on stderr, broken files last; the exit code."""
        for source, why in self.failed[:MOST_REPORTED]:
            print(f"failed: {why if str(source) in why else f'{source}: {why}'}", file=sys.stderr)
        if len(self.failed) > MOST_REPORTED:
            print(f"... and {len(self.failed) - MOST_REPORTED} more", file=sys.stderr)
        words = [f"{self.done} {verb}"]
        words += [f"{self.skipped} already there (--overwrite makes them again)"] if self.skipped else []
        words += [f"{len(self.failed)} failed"] if self.failed else []
        print(", ".join(words) + ".", file=sys.stderr)
        return 1 if self.failed else 0


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="make files again that are already there")
    parser.add_argument(
        "--shard", type=parse_shard, metavar="I/N", help="do only the I-th of N parts (1/N to N/N) of the files"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: spread the files over a Ray cluster"
    )
    parser.add_argument(
        "--workers", type=at_least_one, default=2, metavar="N", help="with --engine ray: how many workers (2)"
    )


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8)"""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: 1/4 to 4/4 are the four parts of four")
    return int(index), int(count)


def run_jobs(jobs: Sequence[Job], work: Callable[..., Work], settings: tuple[Any, ...], args: argparse.Namespace,
             title: str) -> Outcome:  # fmt: skip
    """Do every job whose output is not there yet; a file that fails is noted and the rest goes on.

    ``work(*settings)`` makes the worker: here, or in each of Ray's workers. ``args`` are those of
    :func:`add_batch_arguments`, the output and the device. Raises TaesdError where the one file that was named as the
    output is there already, since it may be another picture's, or where nothing can be written.
    """
    outcome = Outcome()
    todo = [job for job in jobs if args.overwrite or not _is_done(job.target)]
    outcome.skipped = len(jobs) - len(todo)
    if not todo:
        if any(job.target == args.output for job in jobs):
            raise already_there(args.output)
        return outcome
    try_to_write(todo[0].target)
    if args.engine == "ray":
        results = run_on_ray(todo, work, settings, args.workers, gpus=int(args.device.startswith("cuda")))
    else:
        results = run_here(todo, work(*settings))
    for source, error in progress(results, len(todo), title):
        if error is None:
            outcome.done += 1
        else:
            outcome.failed.append((source, error))
    outcome.failed.sort()
    return outcome


def _is_done(target: Path) -> bool:
    """An empty file is what a power cut may leave of one that was whole."""
    try:
        return target.stat().st_size > 0
    except OSError:
        return False


def run_here(jobs: Iterable[Job], worker: Work) -> Iterator[tuple[Path, str | None]]:
    """(source, what went wrong or None) for each job, reading ahead."""
    for job, loaded in prefetched(jobs, lambda job: worker.load(job.source)):
        yield job.source, finish_job(worker, job, loaded.result)


def prefetched(
    items: Iterable[Any], load: Callable[[Any], T], depth: int = PREFETCH
) -> Iterator[tuple[Any, Future[T]]]:
    """(item, its finished or failed load) in order, with at most ``depth`` loads running ahead in one thread."""
    waiting: deque[tuple[Any, Future[T]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="taesd-prefetch") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(load, item)))
                if len(waiting) > depth:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()
