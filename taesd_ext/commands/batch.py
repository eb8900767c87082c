"""Many files through one function: found, split into shards, prefetched, skipped when done, reported at the end."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from taesd_ext.commands.number_arguments import at_least_one
from taesd_ext.commands.outputs import already_there, try_to_write, unfinished_file
from taesd_ext.errors import TaesdError, one_line

PREFETCH = 4
"""Files read ahead: enough to hide the disk, few enough to bound the memory."""
MOST_REPORTED = 20

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One file to make of one file."""

    source: Path
    target: Path


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


def plan_jobs(
    inputs: Sequence[str],
    output: Path,
    *,
    source_suffixes: Sequence[str],
    target_suffixes: Sequence[str],
    default_suffix: str,
    shard: tuple[int, int] | None = None,
) -> list[Job]:
    """The jobs of a command line, in an order that depends on names only.

    One input file and an output with one of ``target_suffixes`` is a single job. Otherwise the output is a folder in
    which every file keeps its name, and its place below the folder or pattern that was given; two files that differ
    by their suffix alone keep that too ("a.jpg.png"). Raises TaesdError when there is nothing to do or when an output
    would replace an input.
    """
    found = sorted(find_files(inputs, source_suffixes, leave_out=output), key=lambda pair: pair[1].as_posix())
    if len(inputs) == 1 and Path(inputs[0]).is_file() and output.suffix and not output.is_dir():
        if output.suffix.lower() not in target_suffixes:
            raise TaesdError(f"Cannot write {output}", "its suffix is unknown", f"Use {', '.join(target_suffixes)}")
        jobs = [Job(found[0][0], output)]
    else:
        if output.is_file():
            raise TaesdError(f"{output} is a file", "several files need a folder to go to", "Give a folder")
        stems = Counter(relative.with_suffix("") for _, relative in found)
        jobs = []
        for source, relative in found:
            stem = relative.with_suffix("")
            name = relative.name if stems[stem] > 1 else stem.name
            jobs.append(Job(source, output / relative.with_name(name + default_suffix)))
    _refuse_clashes(jobs)
    if shard:
        index, count = shard
        jobs = jobs[index - 1 :: count]
    return jobs


def find_files(
    inputs: Iterable[str], suffixes: Sequence[str], *, leave_out: Path | None = None
) -> Iterator[tuple[Path, Path]]:
    """(file, its name relative to what was asked for) for files, folders (all below them) and glob patterns.

    A file that was named is taken whatever its suffix; one that several inputs give is taken once. Hidden files and
    those below ``leave_out``, the output folder, are left alone.
    """
    outside = leave_out.resolve() if leave_out else None
    taken: set[Path] = set()
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            # An output folder inside the input is left out; the input itself as output is caught as a clash.
            skip = outside if outside != path.resolve() else None
            pairs = ((file, file.relative_to(path)) for file in _files_below(path, suffixes, skip))
        elif path.is_file():
            pairs = iter([(path, Path(path.name))])
        elif glob.has_magic(text):
            pairs = iter(_files_matching(path, suffixes, outside))
        else:
            raise TaesdError(f"{text} does not exist", "", "Give files, folders, or patterns such as 'photos/**/*.jpg'")
        found = False
        for file, relative in pairs:
            found = True
            if (resolved := file.resolve()) not in taken:
                taken.add(resolved)
                yield file, relative
        if not found:
            raise TaesdError(f"Nothing to do in {text}", f"no file there ends in {', '.join(suffixes)}")


def _files_below(folder: Path, suffixes: Sequence[str], skip: Path | None) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (skip is None or (here / name).resolve() != skip)
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield here / name


def _files_matching(pattern: Path, suffixes: Sequence[str], skip: Path | None) -> list[tuple[Path, Path]]:
    root = _fixed_part(pattern)
    skip = skip if skip != root.resolve() else None
    pairs = [(file, file.relative_to(root)) for file in sorted(root.glob(str(pattern.relative_to(root))))]
    return [
        (file, relative)
        for file, relative in pairs
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in relative.parts)
        and skip not in file.resolve().parents
    ]


def _fixed_part(pattern: Path) -> Path:
    """The part of a pattern before its first wildcard."""
    fixed = Path(pattern.parts[0]) if pattern.is_absolute() else Path()
    for part in pattern.parts[1 if pattern.is_absolute() else 0 : -1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    targets: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise TaesdError(f"{job.target} would be overwritten", "it is one of the inputs", "Give another folder")
        if other := targets.get(target):
            raise TaesdError(
                f"{other} and {job.source} would both become {job.target}",
                "they have the same name below the inputs",
                "Give the folder above both of them, or run them one after the other",
            )
        targets[target] = job.source


class Work(Protocol):
    """What a command does with each file. Made once in each process that works, so that weights are loaded once."""

    def load(self, source: Path) -> Any:
        """Read one input; runs ahead in a thread."""

    def make(self, loaded: Any, job: Job) -> bytes:
        """The content of the output. Gets one file at a time: no result may depend on which others were there."""


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
        from taesd_ext.commands.batch_ray import run_on_ray

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


def finish_job(worker: Work, job: Job, loaded: Callable[[], Any]) -> str | None:
    """Make and write one output; what went wrong, or None."""
    try:
        write_atomically(job.target, worker.make(loaded(), job))
    except Exception as error:
        return one_line(error)
    return None


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


def write_atomically(target: Path, data: bytes) -> None:
    """The whole file or none: a killed run leaves no half file that a resumed one would take for done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_file(target)
    unfinished.write_bytes(data)
    unfinished.replace(target)


def progress(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """The items, with a progress bar on stderr: tqdm's where it is installed, else a line now and then."""
    if total < 2:
        yield from items
        return
    try:
        from tqdm import tqdm
    except ImportError:
        tenths = 0
        for count, item in enumerate(items, 1):
            yield item
            if count * 10 // total > tenths or count == total:
                tenths = count * 10 // total
                print(f"{title} {count}/{total}", file=sys.stderr)
    else:
        yield from tqdm(items, title, total, unit="file", file=sys.stderr)
