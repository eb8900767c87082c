"""The peak memory of one way of making a frame, in a process of its own: what ran before leaves no trace there."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch

from taesd_ext.commands.bench_ways import Bench
from taesd_ext.commands.peak_memory import PeakMemory
from taesd_ext.errors import log, one_line


def measure_memory(bench: Bench, label: str, side: int) -> int | None:
    """Peak bytes above the loaded weights for one frame of ``side`` pixels, None where it cannot be had."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_peak, bench, label, side, torch.get_num_threads()).result()
    except Exception as error:  # whatever the way raised there, or the system's end of that process
        log.warning("[TAESD] no memory figure for %s: %s", label, one_line(error))
        return None


def _peak(bench: Bench, label: str, side: int, threads: int) -> int | None:
    torch.set_num_threads(threads)
    way = next(way for way in bench.ways() + bench.tile_ways() if way.label == label)
    frame = way.prepare()
    frame(bench.latent(64))
    latent = bench.latent(side)
    with PeakMemory() as memory:
        frame(latent)
    return memory.bytes
