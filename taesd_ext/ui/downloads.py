"""What can be downloaded, how large it is, and the download itself, as several tabs offer it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui import compat
from taesd_ext.ui.work import Task
from taesd_ext.weights.catalog import downloadable, downloads
from taesd_ext.weights.download import download_family
from taesd_ext.weights.fetch import Transfer
from taesd_ext.weights.installed import installed
from taesd_ext.weights.tiny_file import PARTS

NOTHING_MISSING = "Nothing is missing."


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def downloaded(name: str, have: int, total: int | None) -> str:
    """How much of a file is there, in words."""
    return f"{name}: {have / 1e6:.1f}" + (f" of {total / 1e6:.1f} MB" if total else " MB")


def download_size(name: str) -> str:
    """How large the files of a family or VAE are, in words."""
    rows = downloads(name)[0]
    sizes = [row.size or row.rounded_size for row in rows]
    if all(sizes):
        return f"{'' if all(row.size for row in rows) else 'about '}{megabytes(sum(sizes))}"
    return "about 10 MB" if name in FAMILIES else "size not published"


def download_label(name: str) -> str:
    """What a button says that gets it."""
    return f"Download {name} ({download_size(name)})"


def download_choices() -> list[str]:
    """Choices of what can be downloaded."""
    return [compat.choice(name, download_size(name)) for name in downloadable()]


def missing_families(folders: list[Path]) -> list[str]:
    """Tiny families that lack a part and can be downloaded."""
    used = installed(folders)
    return [name for name in downloadable() if name in FAMILIES and len(used.get(name, {})) < len(PARTS)]


def download(names: Sequence[str], folder: Path, task: Task, came: Callable[[], None]) -> str:
    """What was downloaded, in words; ``came`` is called after each family. Raises TaesdError once all were tried."""
    done: list[Path] = []
    failed: list[TaesdError] = []
    for index, name in enumerate(names):

        def progress(have: int, total: int | None, index: int = index, name: str = name) -> None:
            task.report((index + (have / total if total else 0.5)) / len(names), downloaded(name, have, total))

        task.report(index / len(names), name)
        try:
            done += download_family(name, folder, Transfer(progress, task.stop))
        except TaesdError as error:
            if task.stop.is_set():
                raise
            failed.append(error)
        came()
    there = f"Downloaded to {folder}: {', '.join(path.name for path in done)}." if done else ""
    if failed:
        first, *others = failed
        raise TaesdError(first.what, first.why, " ".join([first.cure, *map(str, others), there]).strip())
    return there or NOTHING_MISSING
