"""Reads mutated files in other processes, which may crash, hang or swell without harm, and counts what happens.

    python tests/fuzz/run_fuzz.py --cases 20000 --format pth safetensors png h5
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from seeds import FORMATS, file_name, seeds  # noqa: E402

SECONDS_A_CASE = 30.0
"""A hang is longer than this; the slowest honest file takes a second on a busy machine."""


@dataclass
class Result:
    """What happened to a format's cases."""

    kind: str
    read: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    bad_lines: list[str] = field(default_factory=list)
    code_run: list[int] = field(default_factory=list)
    memory_mb: int = 0
    """Most resident memory of a reading process beyond what it had before its first case."""
    slowest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        return not (self.crashes or self.hangs or self.bad_lines or self.code_run)

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.read + self.refused} cases, {self.read} read, {self.refused} refused with one line, "
            f"{len(self.crashes)} crashes, {len(self.hangs)} hangs, {len(self.code_run)} ran code, "
            f"{len(self.bad_lines)} bad lines, +{self.memory_mb} MB at most, slowest {self.slowest:.2f} s, "
            f"{len(self.reasons)} different reasons"
        )


class Reader:
    """A process that reads case after case."""

    def __init__(self, kind: str, python: str) -> None:
        self.process = subprocess.Popen(
            [python, str(HERE / "reader.py"), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.buffer = b""

    def ask(self, case: dict[str, object]) -> dict[str, object] | None:
        """The answer; None when the process died. Raises TimeoutError."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(case).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.answer(SECONDS_A_CASE)

    def answer(self, seconds: float) -> dict[str, object] | None:
        assert self.process.stdout
        until = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def fuzz(kind: str, cases: int, *, first: int = 0, python: str = sys.executable) -> Result:
    """Read this many mutated files of a format; ``python`` may be another interpreter with another torch."""
    from mutate import mutated

    honest = seeds(kind)
    result = Result(kind)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        canary = folder / "canary"
        path = file_name(folder, kind)
        reader = None
        for number in range(first, first + cases):
            path.write_bytes(mutated(kind, honest, number, str(canary)))
            if reader is None:
                reader = Reader(kind, python)
                reader.answer(300)
            began = time.monotonic()
            try:
                answer = reader.ask({"path": str(path)})
            except TimeoutError:
                result.hangs.append(number)
                reader.end()
                reader = None
                continue
            result.slowest = max(result.slowest, time.monotonic() - began)
            if canary.exists():
                result.code_run.append(number)
                canary.unlink() if canary.is_file() else canary.rmdir()
            if answer is None or "crash" in answer:
                result.crashes.append(f"case {number}: {answer['crash'] if answer else 'the process died'}")
                if answer is None:
                    reader.end()
                    reader = None
                continue
            _count(result, number, answer)
        if reader is not None:
            reader.end()
    return result


def _count(result: Result, number: int, answer: dict[str, object]) -> None:
    result.memory_mb = max(result.memory_mb, int(str(answer["memory_mb"])))
    line = str(answer.get("refused", ""))
    if "refused" not in answer:
        result.read += 1
        return
    result.refused += 1
    result.reasons[line.split(": ", 1)[-1][:60]] += 1
    if not line or "\n" in line or len(line) > 600 or not line.isprintable():
        result.bad_lines.append(f"case {number}: {line[:200]!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to see one again")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--python", default=sys.executable, help="the interpreter that reads, with its own torch")
    parser.add_argument("--reasons", action="store_true", help="show why files were refused")
    args = parser.parse_args()
    clean = True
    for kind in args.format:
        result = fuzz(kind, args.cases, first=args.first, python=args.python)
        print(result, flush=True)
        for line in [*result.crashes, *result.bad_lines, *(f"hang: case {number}" for number in result.hangs)][:20]:
            print("   ", line)
        if args.reasons:
            for reason, count in result.reasons.most_common():
                print(f"    {count:6} {reason}")
        clean &= result.is_clean
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
