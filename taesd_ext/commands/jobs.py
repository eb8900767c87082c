"""From a command line to single pieces of work: which files are read, what each becomes, and how one is made."""

import glob
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from taesd_ext.commands.outputs import write_atomically
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.home import expanded


@dataclass(frozen=True)
class Job:
    """One file to make of one file."""

    source: Path
    target: Path


class Work(Protocol):
    """What a command does with each file. Made once in each process that works, so that weights are loaded once."""

    def load(self, source: Path) -> Any:
        """Read one input; runs ahead in a thread."""

    def make(self, loaded: Any, job: Job) -> bytes:
        """The content of the output. Gets one file at a time: no result may depend on which others were there."""


def finish_job(worker: Work, job: Job, loaded: Callable[[], Any]) -> str | None:
    """Make and write one output; what went wrong, or None."""
    try:
        write_atomically(job.target, worker.make(loaded(), job))
    except Exception as error:
        return one_line(error)
    return None


def plan_jobs(
    inputs: Sequence[str], output: Path | None, *, made: str, source_suffixes: Sequence[str],
    target_suffixes: Sequence[str], default_suffix: str, shard: tuple[int, int] | None = None,
) -> list[Job]:  # fmt: skip
    """The jobs of a command line, in an order that depends on names only.

    One input file and an output with one of ``target_suffixes`` is a single job. Otherwise the output is a folder in
    which every file keeps its name, and its place below the folder or pattern that was given; two files that differ
    by their suffix alone keep that too ("a.jpg.png"). Without an output every result lies beside its source and has
    ``made`` in its name ("a.latent.png"); of a folder or pattern such files are left alone. Raises TaesdError when
    there is nothing to do or when an output would replace an input.
    """
    found = sorted(find_files(inputs, source_suffixes, leave_out=output), key=lambda pair: pair[1].as_posix())
    if output and len(inputs) == 1 and Path(inputs[0]).is_file() and output.suffix and not output.is_dir():
        if output.suffix.lower() not in target_suffixes:
            raise TaesdError(f"Cannot write {output}", "its suffix is unknown", f"Use {', '.join(target_suffixes)}")
        jobs = [Job(found[0][0], output)]
    elif output and output.is_file():
        raise TaesdError(f"{output} is a file", "several files need a folder to go to", "Give a folder")
    else:
        named = {expanded(text).resolve() for text in inputs}
        found = [pair for pair in found if pair[0].resolve() in named or not pair[0].stem.endswith(f".{made}")]
        if not found:
            raise TaesdError("Nothing to do", f"all these files are results, named .{made}", "Name the files")
        ending = default_suffix if output else f".{made}{default_suffix}"
        places = [(source, output / relative if output else source) for source, relative in found]
        alike = Counter(place.with_suffix("") for _, place in places)
        jobs = [
            Job(source, place.with_name((place.name if alike[place.with_suffix("")] > 1 else place.stem) + ending))
            for source, place in places
        ]
    _refuse_clashes(jobs)
    index, count = shard or (1, 1)
    return jobs[index - 1 :: count]


def find_files(
    inputs: Iterable[str], suffixes: Sequence[str], *, leave_out: Path | None = None
) -> Iterator[tuple[Path, Path]]:
    """(file, its name relative to what was asked for) for files, folders (all below them) and glob patterns.

    A file that was named is taken whatever its suffix; one that several inputs give is taken once. Hidden files and
    those below ``leave_out``, the output folder, are left alone. Raises TaesdError for an input that gives nothing.
    """
    taken: set[Path] = set()
    for text in inputs:
        path = expanded(text)
        if path.is_file():
            pairs = [(path, Path(path.name))]
        elif path.is_dir():
            pairs = _matching(path, "**/*", suffixes, leave_out)
        elif glob.has_magic(text):
            root = _fixed_part(path)
            pairs = _matching(root, str(path.relative_to(root)), suffixes, leave_out)
        else:
            raise TaesdError(f"{text} does not exist", "", "Give files, folders, or patterns such as 'photos/**/*.jpg'")
        if not pairs:
            raise TaesdError(f"Nothing to do in {text}", f"no file there ends in {', '.join(suffixes)}")
        for file, relative in pairs:
            if (resolved := file.resolve()) not in taken:
                taken.add(resolved)
                yield file, relative


def _matching(root: Path, pattern: str, suffixes: Sequence[str], leave_out: Path | None) -> list[tuple[Path, Path]]:
    outside = leave_out.resolve() if leave_out else None
    if outside == root.resolve():
        outside = None  # the input itself as output is caught as a clash
    return [
        (file, relative)
        for file, relative in ((file, file.relative_to(root)) for file in sorted(root.glob(pattern)))
        if file.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in relative.parts)
        and outside not in file.resolve().parents
        and file.is_file()
    ]


def _fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before its first wildcard."""
    folders = pattern.relative_to(pattern.anchor).parts[:-1]
    return Path(pattern.anchor, *takewhile(lambda part: not glob.has_magic(part), folders))


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
                "they have the same name",
                "Give their parent folder, or run them separately",
            )
        targets[target] = job.source
