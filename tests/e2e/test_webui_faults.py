"""Faults put into a real WebUI while it generates: every picture is the one that it makes without the extension."""

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from webui_faults import CHECKPOINTS, FAULTS, OTHER_VAE, Fault
from webui_server import NO_PREVIEWS, OPTIONS, Result, WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS, AT = 5, 2
"""Of each generation, and where it is stopped."""

EVERY_OPTION = {**OPTIONS, "show_progress_every_n_steps": 1, "taesd_ext_max_side": 0, "sd_vae": "Automatic"}
"""What is set before each generation, so that nothing stays of the one before."""

Made = tuple[list[bytes], list[str]]
"""Pictures and their parameters."""


def request_of(fault: Fault) -> dict[str, Any]:
    return {"width": 64, "height": 64, "steps": STEPS, "sampler_name": "Euler a", **fault.request}


def key_of(fault: Fault) -> str:
    """Equal where the picture must be equal."""
    return json.dumps([fault.vae, fault.request, fault.stop.replace("reload", "interrupt")])


def know_checkpoints(server: WebUIServer) -> None:
    """Parameters name a checkpoint's hash only once it was loaded."""
    for checkpoint in reversed(CHECKPOINTS):
        server.set_options(sd_model_checkpoint=checkpoint)


@pytest.fixture(scope="module")
def with_other_vae(webui_home, new_server, checkpoints):
    """Makes servers that have one more VAE."""
    if (webui_home / "modules_forge").is_dir():
        pytest.skip("needs two checkpoints of different kinds")
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


@pytest.fixture(scope="module")
def expected(with_other_vae) -> dict[str, Made]:
    """What a WebUI without the extension makes, by each fault's key."""
    made: dict[str, Made] = {}
    with with_other_vae(ours=False) as bare:
        bare.set_options(**NO_PREVIEWS)
        know_checkpoints(bare)
        for key, fault in {key_of(fault): fault for fault in FAULTS.values()}.items():
            bare.set_options(sd_vae=fault.vae)
            stop = {"stop": fault.stop.replace("reload", "interrupt"), "at": AT}
            bare.call("/faults/set", stop if fault.stop else {})
            result = bare.generate(poll=None, **request_of(fault))
            assert result.error is None
            made[key] = [image.tobytes() for image in result.images], result.infotexts
    return made


@pytest.fixture(scope="module")
def server(expected, with_other_vae):
    with with_other_vae() as running:
        know_checkpoints(running)
        yield running


@contextlib.contextmanager
def spoilt(server: WebUIServer, fault: Fault) -> Iterator[None]:
    """The decoders' files are spoilt inside, and whole again after."""
    links = [server.data / "models" / "VAE-taesd" / f"{family}_decoder.safetensors" for family in ("taesd", "taesdxl")]
    targets = {link: link.resolve() for link in links if fault.files}
    for link in targets:
        fault.files(link)
    if targets and fault.reread:
        server.call("/faults/forget", {})
    try:
        yield
    finally:
        for link, target in targets.items():
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def generate(server: WebUIServer, fault: Fault) -> list[Result]:
    starts = server.output().count("Startup time:")
    server.set_options(**EVERY_OPTION | {"sd_model_checkpoint": CHECKPOINTS[0]} | fault.options)
    server.set_options(sd_vae=fault.vae)
    server.call("/faults/set", {"slow": 0.02, **fault.faults, "stop": fault.stop, "at": AT})
    task, done = f"task(fault{time.monotonic_ns()})", Event()

    def job(number: int) -> Result:
        return server.generate(poll=None, **request_of(fault), force_task_id=f"{task}{number or ''}")

    with spoilt(server, fault), ThreadPoolExecutor() as pool:
        beside = pool.submit(fault.beside, server, task, done)
        jobs = [pool.submit(job, number) for number in range(fault.jobs)]
        try:
            results = [one.result() for one in jobs]
        finally:
            done.set()
        beside.result()
    if fault.stop == "reload":
        server.wait_for_start(starts)
    return results


@pytest.mark.parametrize("name", FAULTS)
def test_the_picture_is_the_one_without_the_extension(server, expected, name):
    fault = FAULTS[name]
    pictures, infotexts = expected[key_of(fault)]
    for result in generate(server, fault):
        assert result.error is None
        assert [image.tobytes() for image in result.images] == pictures
        assert fault.options or result.infotexts == infotexts
    assert server.call("/faults/state")["job"] == ""


def test_previews_have_recovered(server):
    server.set_options(**EVERY_OPTION)
    server.call("/faults/set", {"poll": True})
    assert server.generate(poll=None, **request_of(Fault())).error is None
    assert server.call("/faults/state")["frames"] >= STEPS
    assert not [line for line in server.output().splitlines() if "Error calling" in line and "taesd" in line]
