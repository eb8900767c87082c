"""Many files through one function: prefetched, skipped when done, reported at the end; here or on a Ray cluster.

Ray's workers read and write the files: they need the same disk.
"""

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from taesd_ext.commands.arguments import at_least_one, shard
from taesd_ext.commands.codec_arguments import add_codec_arguments
from taesd_ext.commands.jobs import Job, Work, finish_job, plan_jobs
from taesd_ext.commands.outputs import already_there, try_to_write
from taesd_ext.commands.progress import progress
from taesd_ext.errors import TaesdError

PREFETCH = 4
"""Files read ahead: enough to hide the disk, few enough to bound the memory."""
MOST_REPORTED = 20

T = TypeVar("T")


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    add_codec_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="redo files that already exist")
    parser.add_argument(
        "--shard", type=shard, metavar="I/N", help="process only part I of N of the files (1/N to N/N)"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray spreads the files over a Ray cluster (local)"
    )
    parser.add_argument(
        "--workers", type=at_least_one, default=2, metavar="N", help="with --engine ray: how many workers (2)"
    )


def run_batch(args: argparse.Namespace, work: Callable[[argparse.Namespace], Work], source_suffixes: Sequence[str],
              target_suffixes: Sequence[str], made: str) -> int:  # fmt: skip
    """Do every job whose output is not there yet; a file that fails is reported and the rest goes on. The exit code.

    ``work(args)`` makes the worker: here, or in each of Ray's workers. ``args`` are those of
    :func:`add_batch_arguments`, the inputs, the output and the format. Raises TaesdError where the one file that was
    named as the output is there already, since it may be another picture's, or where nothing can be written.
    """
    jobs = plan_jobs(
        args.inputs, args.output, made=made, source_suffixes=source_suffixes, target_suffixes=target_suffixes,
        default_suffix=f".{args.format}", shard=args.shard,
    )  # fmt: skip
    # An empty file is what a power cut may leave of one that was whole.
    todo = [job for job in jobs if args.overwrite or not (job.target.is_file() and job.target.stat().st_size)]
    failed: list[tuple[Path, str]] = []
    if todo:
        try_to_write(todo[0].target)
        results = run_on_ray(todo, work, args) if args.engine == "ray" else run_here(todo, work(args))
        failed = sorted((source, why) for source, why in progress(results, len(todo), args.command) if why)
    elif any(job.target == args.output for job in jobs):
        raise already_there(args.output)
    if len(todo) == len(jobs) == 1 and not failed:
        print(f"Wrote {todo[0].target}.", file=sys.stderr)
    else:
        _report(f"{args.command}d", len(todo) - len(failed), len(jobs) - len(todo), failed)
    return 1 if failed else 0


def _report(verb: str, done: int, skipped: int, failed: list[tuple[Path, str]]) -> None:
    """On stderr, broken files first."""
    for source, why in failed[:MOST_REPORTED]:
        print(f"failed: {why if str(source) in why else f'{source}: {why}'}", file=sys.stderr)
    if len(failed) > MOST_REPORTED:
        print(f"... and {len(failed) - MOST_REPORTED} more", file=sys.stderr)
    words = [f"{done} {verb}"]
    words += [f"{skipped} already there (--overwrite redoes them)"] if skipped else []
    words += [f"{len(failed)} failed"] if failed else []
    print(", ".join(words) + ".", file=sys.stderr)


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


class _Worker:
    """One of Ray's workers."""

    def start(
        self, work: Callable[[argparse.Namespace], Work], args: argparse.Namespace, threads: int
    ) -> TaesdError | None:
        """Load the weights; what went wrong is returned, since Ray makes a traceback of what is raised."""
        # Ray gives a worker one thread; sums are rounded alike only when they are split alike.
        torch.set_num_threads(threads)
        try:
            self._work = work(args)
        except TaesdError as error:
            return error
        return None

    def finish(self, job: Job) -> tuple[Path, str | None]:
        return job.source, finish_job(self._work, job, lambda: self._work.load(job.source))


def run_on_ray(
    jobs: Sequence[Job], work: Callable[[argparse.Namespace], Work], args: argparse.Namespace
) -> Iterator[tuple[Path, str | None]]:
    """(source, what went wrong or None) for each job, in any order. Starts a local Ray where no cluster is named.

    Workers compute with as many threads as this process, each on a graphics card of its own where ``args`` ask for one.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise TaesdError("--engine ray needs Ray", str(error), "pip install ray") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(logging_level="error", include_dashboard=False)
    try:
        worker = ray.remote(num_gpus=int(args.device.startswith("cuda")))(_Worker)
        workers = [worker.remote() for _ in range(args.workers)]
        started = [worker.start.remote(work, args, torch.get_num_threads()) for worker in workers]
        for error in filter(None, ray.get(started)):
            raise error
        absolute = [Job(job.source.resolve(), job.target.resolve()) for job in jobs]
        yield from ActorPool(workers).map_unordered(lambda worker, job: worker.finish.remote(job), absolute)
    finally:
        if is_ours:
            ray.shutdown()
