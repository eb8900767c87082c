"""A running playground, as ``python -m taesd_ext demo`` starts it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180
READY = "TAESD playground: "

DEMO = ("-m", "taesd_ext", "demo", "--no-browser")


@contextlib.contextmanager
def running_playground(
    folder: Path, weights: Path, start: Sequence[str] = DEMO, *, offline: bool = True
) -> Iterator[str]:
    """Gives its address. ``folder`` takes the log and the cache; ``start`` is what Python is given."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1" if offline else "0", "XDG_CACHE_HOME": str(folder), "PYTHONUNBUFFERED": "1",
        "MPLCONFIGDIR": str(Path.home() / ".cache" / "matplotlib"),  # whose list of fonts takes many seconds
        "OMP_NUM_THREADS": "1",  # threads that wait for one another are slow beside other work
    }  # fmt: skip
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *start, "--models", str(weights)], cwd=folder, env=environment, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while READY not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"not started: {log.read_text()}"
            time.sleep(0.3)
        yield log.read_text().partition(READY)[2].split()[0].rstrip("/")
    finally:
        process.terminate()
        process.wait(20)
