"""Reads mutated files in another process, which may crash, hang or swell without harm, and counts what happens.

    python tests/fuzz/run_fuzz.py --cases 20000 --format pth safetensors png h5
"""

import argparse
import contextlib
import multiprocessing
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from mutate import mutated  # noqa: E402
from seeds import FORMATS, file_name, seeds  # noqa: E402

SECONDS_A_CASE = 30.0
"""A hang is longer than this; the slowest honest file takes a second on a busy machine."""
_CRASH, _HANG, _CODE_RUN, _BAD_LINE = PROBLEMS = ("crashes", "hangs", "ran code", "bad lines")


def read_weights(path: Path) -> None:
    """Everything that the product does with a weight file: recognise it, load all of it, build what is in it."""
    from taesd_ext.weights.identify import identify
    from taesd_ext.weights.tensor_file import open_tensor_file
    from taesd_ext.weights.tiny_file import find_tiny_parts
    from taesd_ext.weights.vae_file import find_full_vae

    identify(path, always_hash=True)
    file = open_tensor_file(path)
    tensors = file.load(list(file.shapes))
    for name, shape in file.shapes.items():
        assert tuple(tensors[name].shape) == shape, name
        tensors[name].double().sum().item()
    for part in find_tiny_parts(file).values():
        part.build()
    find_full_vae(file)


def read_png(path: Path) -> None:
    """As a stored latent, and as a foreign picture that a user calls one."""
    from taesd_ext.codec.latent_image import png_to_latent
    from taesd_ext.errors import TaesdError

    with contextlib.suppress(TaesdError):
        png_to_latent(path, "taesd")
    latent, _ = png_to_latent(path)
    assert latent.ndim == 4
    latent.sum().item()


def serve(kind: str, path: Path, connection: Connection) -> None:
    """Reads the file at each asking; answers with what happened, a text about it, and the memory taken so far."""
    from taesd_ext.errors import TaesdError

    def answer() -> tuple[str, str]:
        try:
            (read_png if kind == "png" else read_weights)(path)
        except TaesdError as error:
            return "refused", str(error)
        except BaseException:
            return _CRASH, traceback.format_exc()[-1500:]
        return "read", ""

    def memory_mb() -> int:
        """Most that this process ever had; what getrusage says is the parent's too."""
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024

    warnings.simplefilter("ignore")
    # Honest files first, so that what is imported late does not count as the cases' memory.
    for content in seeds(kind):
        path.write_bytes(content)
        assert answer()[0] == "read" or kind == "h5", "an honest file was refused"
    before = memory_mb()
    connection.send("ready")
    while connection.recv():
        connection.send((*answer(), memory_mb() - before))


@dataclass
class Result:
    """What happened to a format's cases."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory_mb: int = 0
    """Most resident memory of a reading process beyond what it had before its first case."""
    slowest: float = 0.0
    reasons: set[str] = field(default_factory=set)

    def add(self, number: int, what: str, text: str = "") -> None:
        """Count a case; a refusal must be one line for a person."""
        if what == "refused":
            self.reasons.add(text.split(": ", 1)[-1][:60])
            if not text or "\n" in text or len(text) > 600 or not text.isprintable():
                what = _BAD_LINE
        self.counts[what] += 1
        if what in PROBLEMS:
            self.problems.append(f"case {number}: {what}: {text}")

    def __str__(self) -> str:
        counts = ", ".join(f"{self.counts[what]} {what}" for what in ("read", "refused", *PROBLEMS))
        return (
            f"{self.kind}: {counts}, +{self.memory_mb} MB at most, slowest {self.slowest:.2f} s, "
            f"{len(self.reasons)} different reasons"
        )


class Reader:
    """A process that reads the file at one path again and again."""

    def __init__(self, kind: str, path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(kind, path, theirs), daemon=True)
        self.process.start()
        theirs.close()
        if self.answer(300) != "ready":
            raise RuntimeError("the reader does not start")

    def answer(self, seconds: float = SECONDS_A_CASE) -> Any:
        """Its answer; _HANG where none came in time, _CRASH where the process ended."""
        try:
            return self.connection.recv() if self.connection.poll(seconds) else _HANG
        except (EOFError, ConnectionError):
            return _CRASH

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def fuzz(kind: str, cases: int, first: int = 0) -> Result:
    """Read this many mutated files of a format."""
    honest, result, reader = seeds(kind), Result(kind), None
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        canary, path = Path(folder) / "canary", file_name(Path(folder), kind)
        for number in range(first, first + cases):
            reader = reader or Reader(kind, path)
            path.write_bytes(mutated(kind, honest, number, str(canary)))
            began = time.monotonic()
            reader.connection.send(True)
            answer = reader.answer()
            if answer in (_HANG, _CRASH):
                reader.end()
                reader, answer = None, (answer, "no answer", 0)
            what, text, memory_mb = answer
            result.slowest = max(result.slowest, time.monotonic() - began)
            result.memory_mb = max(result.memory_mb, memory_mb)
            result.add(number, what, text)
            if canary.exists():
                result.add(number, _CODE_RUN)
                canary.unlink() if canary.is_file() else canary.rmdir()
        if reader:
            reader.end()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to see one again")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    args = parser.parse_args()
    clean = True
    for kind in args.format:
        result = fuzz(kind, args.cases, args.first)
        print(result, *result.problems[:20], sep="\n    ", flush=True)
        clean &= not result.problems
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
