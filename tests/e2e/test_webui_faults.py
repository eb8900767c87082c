"""Faults put into a real WebUI while it generates: every picture is the one that it makes without the extension.

TAESD_FAULT_GENERATIONS says how many generations; every fault comes once in each len(FAULTS) of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from webui_server import OPTIONS, Result, WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GENERATIONS = int(os.environ.get("TAESD_FAULT_GENERATIONS", "30"))

CHECKPOINTS = ("tiny_sd1.safetensors", "tiny_sdxl.safetensors")
OTHER_VAE = "tinted.safetensors"
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM")
STEPS = 5
SMALL = {"width": 64, "height": 64, "steps": STEPS}

EVERY_OPTION = {**OPTIONS, "show_progress_every_n_steps": 1, "taesd_ext_max_side": 0, "taesd_ext_budget": 0}
"""What is set before each generation, so that nothing stays of the one before."""

NO_PREVIEWS = {"live_previews_enable": False, "show_progress_type": "Approx cheap"}
"""For a WebUI without the extension; its own default asks for a download before it samples."""

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


def halve(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}

FAULTS = {
    "nothing": Fault(),
    "a batch": Fault(request={"batch_size": 2}),
    "hires fix, decoder raises": Fault({"decoder": "raise"}, request=HIRES),
    "decoder raises": Fault({"decoder": "raise"}),
    "decoder makes NaN": Fault({"decoder": "nan"}),
    "decoder has no memory": Fault({"decoder": "oom"}),
    "host has no memory": Fault({"decoder": "memory"}),
    "decoder is slow": Fault({"decoder": "slow"}),
    "every way fails": Fault({"decoder": "raise", "others": True}),
    "file vanishes": Fault(files=remove),
    "file vanishes when loaded": Fault(files=remove, reread=False),
    "file is garbage": Fault(files=spoil),
    "file is cut": Fault(files=halve),
    "decoder raises and final by TAESD": Fault({"decoder": "raise"}, TAESD_FINALS),
    "NaN and final by TAESD": Fault({"decoder": "nan"}, TAESD_FINALS),
    "no memory and final by TAESD": Fault({"decoder": "oom"}, TAESD_FINALS),
    "no file and final by TAESD": Fault(files=remove, options=TAESD_FINALS),
    "garbage and final by TAESD": Fault(files=spoil, options=TAESD_FINALS),
    "checkpoint changed within the job": Fault(request={"refiner_switch_at": 0.5}),
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
    "two jobs in a row": Fault(jobs=2),
    "two jobs in a row, decoder makes NaN": Fault({"decoder": "nan"}, jobs=2),
}

RELOADS = {"Reload UI": Fault(stop="reload"), "Reload UI, decoder is slow": Fault({"decoder": "slow"}, stop="reload")}
"""Once in a hundred generations, as each takes as long as a start."""


@dataclass(frozen=True)
class Generation:
    """One entry of the plan."""

    name: str
    fault: Fault
    checkpoint: str
    request: dict[str, Any]
    at: int

    @property
    def key(self) -> str:
        """Equal where the picture must be equal."""
        stop = (self.fault.stop.replace("reload", "interrupt"), self.at) if self.fault.stop else None
        return json.dumps([self.checkpoint, self.fault.vae, self.request, stop], sort_keys=True)


def plan(count: int) -> list[Generation]:
    """Seeded; runs of one checkpoint, as changing it costs more time than a generation."""
    chance, made, names = random.Random(0), [], []
    checkpoint = CHECKPOINTS[0]
    for number in range(count):
        if number % 100 == 20:
            name = chance.choice(list(RELOADS)) if number > 100 else "Reload UI"
        else:
            if not names:
                names = chance.sample(list(FAULTS), len(FAULTS))
            name = names.pop()
        fault = (FAULTS | RELOADS)[name]
        if number % 12 == 11:
            checkpoint = CHECKPOINTS[checkpoint == CHECKPOINTS[0]]
        if "VAE" in name:
            checkpoint = CHECKPOINTS[0]
        # Few different pictures are asked for where a stop or more multiplies them.
        sampler, seed = (SAMPLERS[1], 1) if fault.stop else (chance.choice(SAMPLERS), chance.randint(1, 3))
        request = {**SMALL, "sampler_name": sampler, "seed": seed, **fault.request}
        if "refiner_switch_at" in request:
            request["refiner_checkpoint"] = CHECKPOINTS[checkpoint == CHECKPOINTS[0]]
        at = chance.randrange(STEPS - 1)  # the host counts from 0 and is one behind
        made.append(Generation(name, fault, checkpoint, request, at))
        if fault.beside is another_checkpoint:
            checkpoint = CHECKPOINTS[checkpoint == CHECKPOINTS[0]]
    return made


def pictures(result: Result) -> list[bytes]:
    return [image.tobytes() for image in result.images]


def choose(server: WebUIServer, generation: Generation) -> None:
    """Checkpoint and VAE; the other VAE is for the first checkpoint only."""
    if generation.fault.vae == "Automatic":
        server.set_options(sd_vae="Automatic")
    server.set_options(sd_model_checkpoint=generation.checkpoint)
    if generation.fault.vae != "Automatic":
        server.set_options(sd_vae=generation.fault.vae)


def know_checkpoints(server: WebUIServer) -> None:
    """Parameters name a checkpoint's hash only once it was loaded."""
    for checkpoint in reversed(CHECKPOINTS):
        server.set_options(sd_model_checkpoint=checkpoint)


@pytest.fixture(scope="module")
def with_other_vae(new_server, checkpoints):
    """Makes servers that have one more VAE."""
    vae = {
        name.removeprefix("first_stage_model."): tensor
        for name, tensor in load_file(checkpoints / CHECKPOINTS[0]).items()
        if name.startswith("first_stage_model.")
    }
    vae["decoder.conv_out.bias"] = vae["decoder.conv_out.bias"] + torch.tensor([0.3, 0.0, -0.3])

    def make(**kwargs: Any) -> WebUIServer:
        server = new_server(**kwargs)
        folder = server.data / "models" / "VAE"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(vae, folder / OTHER_VAE)
        return server

    return make


@pytest.fixture
def a1111(webui_home):
    if (webui_home / "modules_forge").is_dir():
        pytest.skip("needs two checkpoints of different kinds")


@contextlib.contextmanager
def spoilt(server: WebUIServer, fault: Fault) -> Iterator[None]:
    """The decoders' files are spoilt inside, and whole again after."""
    links = [server.data / "models" / "VAE-taesd" / f"{family}_decoder.safetensors" for family in ("taesd", "taesdxl")]
    targets = {link: link.resolve() for link in links}
    if fault.files:
        for link in links:
            fault.files(link)
        if fault.reread:
            server.call("/faults/forget", {})
    try:
        yield
    finally:
        if fault.files:
            for link, target in targets.items():
                link.unlink(missing_ok=True)
                link.symlink_to(target)


def generate(server: WebUIServer, generation: Generation) -> list[Result]:
    fault = generation.fault
    starts = server.output().count("Startup time:")
    server.set_options(**{**EVERY_OPTION, **fault.options})
    choose(server, generation)
    stop = {"stop": fault.stop, "at": generation.at} if fault.stop else {}
    server.call("/faults/set", {"slow": 0.02, **fault.faults, **stop})
    task, done = f"task(fault{time.monotonic_ns()})", threading.Event()
    beside = threading.Thread(target=fault.beside, args=(server, task, done))
    results: list[Result] = []

    def job(number: int) -> None:
        wanted = task if number == 0 else f"{task}{number}"
        results.append(server.generate(poll=None, **{**generation.request, "force_task_id": wanted}))

    with spoilt(server, fault):
        jobs = [threading.Thread(target=job, args=(number,)) for number in range(fault.jobs)]
        for thread in (beside, *jobs):
            thread.start()
        for thread in jobs:
            thread.join()
        done.set()
        beside.join()
    if fault.stop == "reload":
        server._wait_for_start(starts)
    return results


@pytest.mark.usefixtures("a1111")
def test_every_picture_is_the_one_without_the_extension(with_other_vae, capsys):
    planned = plan(GENERATIONS)
    expected: dict[str, tuple[list[bytes], list[str]]] = {}
    with with_other_vae(ours=False) as bare:
        bare.set_options(**NO_PREVIEWS)
        know_checkpoints(bare)
        for generation in sorted(planned, key=lambda one: (one.checkpoint, one.fault.vae)):
            if generation.key in expected:
                continue
            choose(bare, generation)
            stop = {"stop": generation.fault.stop.replace("reload", "interrupt"), "at": generation.at}
            bare.call("/faults/set", stop if generation.fault.stop else {})
            result = bare.generate(poll=None, **generation.request)
            assert result.error is None
            expected[generation.key] = pictures(result), result.infotexts
    seen, wrong = Counter(), []
    with with_other_vae() as server:
        know_checkpoints(server)
        started = time.monotonic()
        for number, generation in enumerate(planned):
            results = generate(server, generation)
            state = server.call("/faults/state")
            seen[generation.name] += 1
            seen["generations"] += len(results)
            seen["previews of ours"] += state["frames"]
            made, infotexts = expected[generation.key]
            for result in results:
                if result.error is not None or pictures(result) != made:
                    wrong.append((number, generation.name, generation.key, result.error))
                elif result.infotexts != infotexts and not generation.fault.options:
                    wrong.append((number, generation.name, result.infotexts, infotexts))
            if len(results) != generation.fault.jobs or state["job"]:
                wrong.append((number, generation.name, "a job hangs or broke off", state))
            assert len(wrong) < 10, wrong
            if number % 25 == 24:
                with capsys.disabled():
                    print(f"{number + 1} in {time.monotonic() - started:.0f} s, wrong: {wrong}", flush=True)
        server.call("/faults/set", {"poll": True})
        server.set_options(**OPTIONS, sd_vae="Automatic")
        assert server.generate(poll=None, **SMALL).error is None
        after = server.call("/faults/state")
        output = server.output()
        seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\n{GENERATIONS} planned in {seconds:.0f} s, {len(expected)} different pictures, "
              f"{after['injected']} decodes broken, wrong: {wrong}\n{dict(seen)}")  # fmt: skip
    assert not wrong
    assert after["frames"] >= STEPS, "previews have recovered"
    assert after["job"] == ""
    for line in output.splitlines():
        assert "Error calling" not in line or "taesd" not in line


def test_no_sampler_is_changed_by_previews_at_every_step(server, new_server):
    """Off, at every step, and without the extension: bit for bit."""
    with new_server(ours=False) as bare:
        bare.set_options(**NO_PREVIEWS)
        samplers = [sampler["name"] for sampler in bare.call("/sdapi/v1/samplers")]
        without = {name: sampled(bare, name) for name in samplers}
    server.set_options(**OPTIONS)
    assert [sampler["name"] for sampler in server.call("/sdapi/v1/samplers")] == samplers
    shown = {}
    try:
        for name in samplers:
            server.set_options(live_previews_enable=False)
            assert sampled(server, name) == without[name], f"{name}, previews off"
            server.set_options(live_previews_enable=True)
            server.call("/faults/set", {"poll": True})
            assert sampled(server, name) == without[name], f"{name}, previews at every step"
            shown[name] = server.call("/faults/state")["frames"]
            server.call("/faults/set", {})
    finally:
        server.call("/faults/set", {})
        server.set_options(**OPTIONS)
    assert len(shown) > 10
    assert min(shown.values()) >= STEPS - 1, shown  # DDIM asks its model once less than it is given steps


def sampled(server: WebUIServer, sampler: str) -> list[bytes]:
    result = server.generate(poll=None, **SMALL, sampler_name=sampler)
    assert result.error is None, sampler
    return pictures(result)
