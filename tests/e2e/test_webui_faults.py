"""Faults put into a real WebUI while it generates: every picture is the one that it makes without the extension.

TAESD_FAULT_GENERATIONS says how many generations, and TAESD_FAULT_SEED which: runs of other seeds are other plans with
other pictures. Every fault comes once in each len(FAULTS) generations.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from fault_plan import SMALL, STEPS, Generation, plan
from safetensors.torch import load_file, save_file
from webui_faults import CHECKPOINTS, OTHER_VAE, Fault
from webui_server import NO_PREVIEWS, OPTIONS, Result, WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GENERATIONS = int(os.environ.get("TAESD_FAULT_GENERATIONS", "35"))
SEED = int(os.environ.get("TAESD_FAULT_SEED", "0"))

EVERY_OPTION = {**OPTIONS, "show_progress_every_n_steps": 1, "taesd_ext_max_side": 0, "taesd_ext_budget": 0}
"""What is set before each generation, so that nothing stays of the one before."""


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
    task, done = f"task(fault{time.monotonic_ns()})", Event()

    def job(number: int) -> Result:
        wanted = task if number == 0 else f"{task}{number}"
        return server.generate(poll=None, **{**generation.request, "force_task_id": wanted})

    with spoilt(server, fault), ThreadPoolExecutor() as pool:
        beside = pool.submit(fault.beside, server, task, done)
        jobs = [pool.submit(job, number) for number in range(fault.jobs)]
        try:
            results = [one.result() for one in jobs]
        finally:
            done.set()
        beside.result()
    if fault.stop == "reload":
        server._wait_for_start(starts)
    return results


Made = tuple[list[bytes], list[str]]
"""Pictures and their parameters."""


def made_without(bare: WebUIServer, planned: list[Generation]) -> dict[str, Made]:
    """What a WebUI without the extension makes of each generation that is planned, by its key."""
    bare.set_options(**NO_PREVIEWS)
    know_checkpoints(bare)
    made: dict[str, Made] = {}
    for generation in sorted(planned, key=lambda one: (one.checkpoint, one.fault.vae)):
        if generation.key in made:
            continue
        choose(bare, generation)
        stop = {"stop": generation.fault.stop.replace("reload", "interrupt"), "at": generation.at}
        bare.call("/faults/set", stop if generation.fault.stop else {})
        result = bare.generate(poll=None, **generation.request)
        assert result.error is None
        made[generation.key] = pictures(result), result.infotexts
    return made


def differences(server: WebUIServer, generation: Generation, made: Made, seen: Counter[str]) -> list[tuple[Any, ...]]:
    """What is wrong with one generation; ``seen`` counts what happened."""
    try:
        results = generate(server, generation)
    except Exception as error:
        return [("a job or what is beside it broke off", repr(error))]
    state = server.call("/faults/state")
    seen[generation.name] += 1
    seen["generations"] += len(results)
    seen["previews of ours"] += state["frames"]
    wrong: list[tuple[Any, ...]] = [("a job hangs", state)] if state["job"] else []
    expected, infotexts = made
    for result in results:
        if result.error is not None or pictures(result) != expected:
            wrong.append((generation.key, result.error))
        elif result.infotexts != infotexts and not generation.fault.options:
            wrong.append((result.infotexts, infotexts))
    return wrong


@pytest.mark.usefixtures("a1111")
def test_every_picture_is_the_one_without_the_extension(with_other_vae, capsys):
    planned = plan(GENERATIONS, SEED)
    with with_other_vae(ours=False) as bare:
        made = made_without(bare, planned)
    seen: Counter[str] = Counter()
    wrong: list[tuple[Any, ...]] = []
    with with_other_vae() as server:
        know_checkpoints(server)
        started = time.monotonic()
        for number, generation in enumerate(planned):
            found = differences(server, generation, made[generation.key], seen)
            wrong += [(number, generation.name, *one) for one in found]
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
        print(f"\n{GENERATIONS} planned in {seconds:.0f} s, {len(made)} different pictures, "
              f"{after['injected']} decodes broken, {after['refused']} downloads refused and "
              f"{after['downloaded']} whole, wrong: {wrong}\n{dict(seen)}")  # fmt: skip
    assert not wrong
    assert after["frames"] >= STEPS, "previews have recovered"
    assert after["job"] == ""
    for line in output.splitlines():
        assert "Error calling" not in line or "taesd" not in line
