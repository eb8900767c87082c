"""A long day of previews: memory stays where it is, and no thread is left behind.

The whole run: ``TAESD_LONG_RUN=10000 pytest -s tests/codec/test_long_run.py``, some minutes on two idle cores.
"""

import os
import random
import statistics
import threading
from pathlib import Path

import pytest
import torch

from taesd_ext import load_codec
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.preview.frame import preview_image

COUNT = int(os.environ.get("TAESD_LONG_RUN", "10000"))
SIDES = range(64, 193, 32 if COUNT >= 2000 else 64)
"""The library keeps what it compiled for the last 1024 shapes of each convolution: with more sizes it would compile at
every preview, and a short run would not see the end of it."""
GROWTH = 24 << 20
"""What the last quarter may hold more than the second: the libraries' own caches still fill a little."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def kernel_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif("TAESD_LONG_RUN" not in os.environ, reason="a long run: set TAESD_LONG_RUN=10000")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory as Linux tells it")
def test_memory_and_threads_stay_where_they_are(weights_dir):
    chance = random.Random(0)
    codecs = [load_codec(family, models_dir=weights_dir, dtype=torch.float32) for family in ("taesd", "taef1")]
    held: list[int] = []
    for number in range(COUNT):
        codec = chance.choice(codecs)
        height, width = chance.choice(SIDES), chance.choice(SIDES)
        latent = torch.randn(1, codec.latent_channels, height // 8, width // 8)
        detail = chance.choice(("embedded", *codec.details))
        if detail == "embedded" and has_previewer(codec.format.name):
            image = load_previewer(codec.format.name)(latent)
        else:
            image = codec.decode(latent, detail="1/8" if detail == "embedded" else detail)
        assert preview_image(image).data
        if number == COUNT // 4:
            threads = threading.active_count(), kernel_threads()
        held.append(resident())
    quarter = COUNT // 4
    second, last = (statistics.median(part) for part in (held[quarter : 2 * quarter], held[-quarter:]))
    print(f"\n{COUNT} previews: {second / 2**20:.0f} MB in the second quarter, {last / 2**20:.0f} MB in the last")
    assert last - second < GROWTH
    assert (threading.active_count(), kernel_threads()) == threads
