"""The peak memory of one way of making a frame, in a process of its own: what ran before leaves no trace there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import torch

from taesd_ext.commands.bench_ways import Bench
from taesd_ext.commands.peak_memory import PeakMemory
from taesd_ext.errors import log, one_line

_SECONDS = 1800


def measure_memory(bench: Bench, label: str, side: int) -> int | None:
    """Peak bytes above the loaded weights for one frame of ``side`` pixels, None where it cannot be had."""
    arguments = json.dumps([bench.family, list(bench.models), label, side, torch.get_num_threads()])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "taesd_ext.commands.bench_memory", arguments],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
        log.warning("[TAESD] no memory figure for %s: %s", label, one_line(error))
        return None


def main(arguments: Sequence[str]) -> None:
    family, models, label, side, threads = json.loads(arguments[0])
    torch.set_num_threads(threads)
    bench = Bench(family, tuple(models))
    way = next(way for way in bench.ways() + bench.tile_ways() if way.label == label)
    frame = way.prepare()
    frame(bench.latent(64))
    latent = bench.latent(side)
    with PeakMemory() as memory:
        frame(latent)
    print(json.dumps(memory.bytes))


if __name__ == "__main__":
    main(sys.argv[1:])
