"""What can go wrong in a real WebUI while it generates."""

import contextlib
import itertools
import os
import random
import threading
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misbehaving_server import AFTER, ANSWERS, serving
from webui_server import HIRES, WebUIServer

CHECKPOINTS = ("tiny_sd1.safetensors", "tiny_sdxl.safetensors")
OTHER_VAE = "tinted.safetensors"

TAESD_FINALS = {"sd_vae_decode_method": "TAESD", "taesd_ext_decode_failure": "full VAE"}

UNREACHABLE = (urllib.error.URLError, ConnectionError, TimeoutError)
"""What a client sees while the server restarts its page."""


def storm(server: WebUIServer, task: str, done: threading.Event, clients: int = 50) -> None:
    """Many pages poll one job."""

    def client() -> None:
        while not done.wait(0.02):
            with contextlib.suppress(*UNREACHABLE):
                server.call("/internal/progress", {"id_task": task, "id_live_preview": -1}, timeout=60)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one_client(server: WebUIServer, task: str, done: threading.Event) -> None:
    storm(server, task, done, clients=1)


def sampling(server: WebUIServer, done: threading.Event) -> None:
    """Wait until steps are made."""
    while not done.wait(0.02):
        if server.call("/sdapi/v1/progress?skip_current_image=true")["state"]["sampling_step"]:
            return


def another_checkpoint(server: WebUIServer, task: str, done: threading.Event) -> None:
    sampling(server, done)
    now = server.call("/sdapi/v1/options")["sd_model_checkpoint"]
    server.set_options(sd_model_checkpoint=CHECKPOINTS["sdxl" not in now])


def another_vae(server: WebUIServer, task: str, done: threading.Event) -> None:
    sampling(server, done)
    server.set_options(sd_vae=OTHER_VAE)


def other_settings(server: WebUIServer, task: str, done: threading.Event) -> None:
    changes = random.Random(task)
    choices = {
        "taesd_ext_detail": ("full", "1/2", "1/4", "1/8", "Auto"),
        "taesd_ext_family": ("Auto", "taesd", "taesd3", "taesana", "built-in TAESD"),
        "taesd_ext_budget": (0, 1, 3),
        "taesd_ext_max_side": (0, 32, 512),
        "show_progress_type": ("TAESD", "Approx cheap"),
        "live_previews_enable": (True, False),
        "show_progress_every_n_steps": (-1, 1, 3),
    }
    while not done.wait(0.03):
        key = changes.choice(list(choices))
        server.set_options(**{key: changes.choice(choices[key])})


OFFICIAL = "taef2_decoder.pth"
"""A file that the catalogue has a checksum of, and that no generation here needs."""

WAYS = (*ANSWERS, *AFTER, "good", "broken", "silent", "wrong", "shorter", "endless", "chunked", "garbage")


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


@dataclass(frozen=True)
class Fault:
    """What goes wrong in one generation."""

    faults: dict[str, Any] = field(default_factory=dict)
    """For the probe."""
    options: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)
    stop: str = ""
    """What happens in one of the steps: interrupt, skip or reload."""
    files: Callable[[Path], None] | None = None
    """What becomes of each decoder's file."""
    reread: bool = True
    """Whether the files are read again."""
    beside: Callable[[WebUIServer, str, threading.Event], None] = one_client
    """Runs in a thread as long as the job."""
    vae: str = "Automatic"
    jobs: int = 1


def remove(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.unlink()
    path.write_bytes(os.urandom(50_000))


FAULTS = {
    "nothing": Fault(),
    "a batch": Fault(request={"batch_size": 2}),
    "hires fix, decoder raises": Fault({"decoder": "raise"}, request={**HIRES, "hr_upscaler": "Latent"}),
    "decoder raises": Fault({"decoder": "raise"}),
    "decoder makes NaN": Fault({"decoder": "nan"}),
    "decoder has no memory": Fault({"decoder": "oom"}),
    "host has no memory": Fault({"decoder": "memory"}),
    "decoder is slow": Fault({"decoder": "slow"}),
    "every way fails": Fault({"decoder": "raise", "others": True}),
    "file vanishes": Fault(files=remove),
    "file vanishes when loaded": Fault(files=remove, reread=False),
    "file is garbage": Fault(files=spoil),
    "decoder raises and final by TAESD": Fault({"decoder": "raise"}, TAESD_FINALS),
    "NaN and final by TAESD": Fault({"decoder": "nan"}, TAESD_FINALS),
    "no memory and final by TAESD": Fault({"decoder": "oom"}, TAESD_FINALS),
    "no file and final by TAESD": Fault(files=remove, options=TAESD_FINALS),
    "garbage and final by TAESD": Fault(files=spoil, options=TAESD_FINALS),
    "checkpoint changed within the job": Fault(
        request={"refiner_switch_at": 0.5, "refiner_checkpoint": CHECKPOINTS[1]}
    ),
    "checkpoint changed during the job": Fault(beside=another_checkpoint),
    "VAE changed": Fault(vae=OTHER_VAE),
    "VAE changed during the job": Fault(beside=another_vae),
    "settings changed during the job": Fault(beside=other_settings),
    "settings changed, decoder raises": Fault({"decoder": "raise"}, beside=other_settings),
    "50 clients poll": Fault(beside=storm),
    "50 clients poll a broken decoder": Fault({"decoder": "raise"}, beside=storm),
    "interrupted": Fault(stop="interrupt"),
    "interrupted, decoder is slow": Fault({"decoder": "slow"}, stop="interrupt"),
    "interrupted fast, decoder raises": Fault(
        {"decoder": "raise"}, {"live_preview_fast_interrupt": True}, stop="interrupt"
    ),
    "skipped": Fault(stop="skip"),
    "download server misbehaves": Fault(beside=downloads),
    "download server misbehaves, file vanishes": Fault(files=remove, beside=downloads),
    "download server misbehaves, decoder raises": Fault({"decoder": "raise"}, TAESD_FINALS, beside=downloads),
    "two jobs in a row": Fault(jobs=2),
    "two jobs in a row, decoder makes NaN": Fault({"decoder": "nan"}, jobs=2),
    "Reload UI": Fault(stop="reload"),
    "Reload UI, decoder is slow": Fault({"decoder": "slow"}, stop="reload"),
}
