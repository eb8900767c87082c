"""A batch spread over a Ray cluster by Ray Data. Files are read and written by the workers: they need the same disk."""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from taesd_ext.commands.jobs import Job, Work, finish_job
from taesd_ext.errors import TaesdError


class _Worker:
    """One of Ray's workers: the weights are loaded when it starts."""

    def __init__(self, work: Callable[[argparse.Namespace], Work], args: argparse.Namespace, threads: int) -> None:
        # Ray gives a worker one thread; sums are rounded alike only when they are split alike.
        torch.set_num_threads(threads)
        self._work = work(args)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        job = Job(Path(row["source"]), Path(row["target"]))
        error = finish_job(self._work, job, lambda: self._work.load(job.source))
        return {"source": row["source"], "error": error or ""}


def run_on_ray(
    jobs: Sequence[Job], work: Callable[[argparse.Namespace], Work], args: argparse.Namespace
) -> Iterator[tuple[Path, str | None]]:
    """(source, what went wrong or None) for each job, in any order. Starts a local Ray where no cluster is named.

    Workers compute with as many threads as this process, each on a graphics card of its own where ``args`` ask for one.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise TaesdError("--engine ray needs Ray", str(error), "pip install 'ray[data]'") from error
    started = not ray.is_initialized()
    if started:
        ray.init(logging_level="error", include_dashboard=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"source": str(job.source.resolve()), "target": str(job.target.resolve())} for job in jobs]
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * args.workers)).map(
            _Worker,
            fn_constructor_args=(work, args, torch.get_num_threads()),
            compute=ray.data.ActorPoolStrategy(size=args.workers),
            num_gpus=int(args.device.startswith("cuda")),
        )
        for row in data.iter_rows():
            yield Path(row["source"]), row["error"] or None
    finally:
        if started:
            ray.shutdown()
