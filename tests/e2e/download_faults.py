"""Downloads while a WebUI generates, from a server that does everything wrong in turn."""

from __future__ import annotations

import itertools
import random
import threading

from misbehaving_server import serving
from webui_server import WebUIServer

OFFICIAL = "taef2_decoder.pth"
"""A file that the catalogue has a checksum of, and that no generation here needs."""

WAYS = (
    "good", "broken", "broken-once", "silent", "wrong", "shorter", "page", "page-as-file", "missing", "forbidden",
    "busy", "busy-twice", "redirect", "loop", "to-file", "to-elsewhere", "no-ranges", "other-range", "packed",
    "endless", "chunked", "garbage",
)  # fmt: skip
"""Of misbehaving_server.py."""


def downloads(server: WebUIServer, task: str, done: threading.Event) -> None:
    """Ask for the file until the job is done, into the folder that previews are looked for in: whole or absent."""
    target = server.data / "models" / "VAE-taesd" / OFFICIAL
    official = target.resolve()
    content = official.read_bytes()
    target.unlink()
    try:
        with serving(content) as source:
            for way in itertools.cycle(random.Random(task).sample(WAYS, len(WAYS))):
                answer = server.call("/faults/download", {"name": OFFICIAL, "source": source.url(way)})
                if target.exists():
                    assert target.read_bytes() == content, f"{way} left something else"
                    target.unlink()
                    assert answer["refused"] == ""
                else:
                    assert answer["refused"].count("\n") == 0 < len(answer["refused"]), f"{way} said {answer}"
                    assert way != "good"
                if done.is_set():
                    return
    finally:
        target.unlink(missing_ok=True)
        target.symlink_to(official)
