"""Faults on request: a decoder that breaks, a stop at an exact step, slow steps, a poll at every step."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import torch
from modules import paths, script_callbacks, scripts, shared

NONE = {"decoder": "", "others": False, "stop": "", "at": -1, "slow": 0.0, "poll": False, "source": ""}
"""decoder: what each decode does; others: the ways without a decoder fail too; stop: what happens in step ``at``;
slow: seconds for which each evaluation waits; poll: whether somebody polls in every step; source: the address from
which all downloads come."""

if not hasattr(shared, "e2e_faults"):
    # There, as Reload UI executes this file again.
    shared.e2e_faults = {**NONE, "injected": 0, "downloaded": 0, "refused": 0}
faults = shared.e2e_faults


RAISED = {
    "raise": RuntimeError("the decoder is broken"),
    "oom": torch.cuda.OutOfMemoryError("CUDA out of memory"),
    "memory": MemoryError(),
}


def breaking(original):
    def decode(*args, **kwargs):
        kind = faults["decoder"]
        faults["injected"] += bool(kind)
        if kind in RAISED:
            raise RAISED[kind]
        time.sleep(0.4 if kind == "slow" else 0)
        image = original(*args, **kwargs)
        return torch.full_like(image, float("nan")) if kind == "nan" else image

    return decode


def failing(original):
    def way(*args, **kwargs):
        if faults["others"]:
            faults["injected"] += 1
            raise RuntimeError("this way is broken too")
        return original(*args, **kwargs)

    return way


def from_source(original):
    def download_file(row, *given, **more):
        return original(replace(row, sources=(faults["source"],)) if faults["source"] else row, *given, **more)

    return download_file


def online(original):
    """The tests' WebUI is not; a source on this machine can be reached all the same."""
    return lambda: not faults["source"] and original()


def install():
    try:
        from taesd_ext.codec.codec import Codec
        from taesd_ext.preview import drawing
        from taesd_ext.weights import download as downloading
    except ImportError:
        return
    for owner, name, wrap in (
        (Codec, "decode", breaking), (drawing, "load_previewer", failing), (drawing, "latent_to_rgb", failing),
        (downloading, "download_file", from_source), (downloading, "is_offline", online),
    ):  # fmt: skip
        if not hasattr(getattr(owner, name), "breaking"):
            wrapped = wrap(getattr(owner, name))
            wrapped.breaking = True
            setattr(owner, name, wrapped)


def set_faults(wanted: dict):
    install()
    faults.update(NONE)
    faults.update(wanted)
    return faults


def download(wanted: dict):
    """Ask for an official file as the panel does, but from a server on this machine and with little patience."""
    from taesd_ext.errors import TaesdError
    from taesd_ext.weights import catalog
    from taesd_ext.weights import download as downloading
    from taesd_ext.weights.fetch import Transfer

    faults["source"] = wanted["source"]
    row = next(row for row in catalog.CATALOG if row.name == wanted["name"])
    refused = ""
    try:
        downloading.download_file(
            row, Path(paths.models_path) / "VAE-taesd",
            Transfer(attempts=2, first_pause=0.01, timeout=0.3, lock_wait=5),
        )
    except TaesdError as error:
        refused = str(error)
    faults["refused" if refused else "downloaded"] += 1
    return {"refused": refused}


def forget():
    """The weights are read anew when they are needed."""
    from taesd_ext.host import register

    register._extension.registry.release()
    return {}


def state():
    from taesd_ext.host import register

    extension = register._extension
    return {
        **faults,
        "job": shared.state.job,
        "frames": extension.previews.session.stats.frames if extension else 0,
        "threads": sorted(thread.name for thread in threading.enumerate() if "taesd" in thread.name),
    }


def poll():
    if faults["poll"]:
        client = threading.Thread(target=shared.state.set_current_image)
        client.start()
        client.join()


def evaluation(params):
    time.sleep(faults["slow"])
    poll()
    if params.sampling_step == faults["at"] and faults["stop"]:
        stop = {"interrupt": shared.state.interrupt, "skip": shared.state.skip, "reload": shared.state.request_restart}
        stop[faults["stop"]]()
        faults["stop"] = ""


def add_routes(demo, app):
    app.add_api_route("/faults/set", set_faults, methods=["POST"])
    app.add_api_route("/faults/download", download, methods=["POST"])
    app.add_api_route("/faults/forget", forget, methods=["POST"])
    app.add_api_route("/faults/state", state, methods=["GET"])


class Poller(scripts.Script):
    def title(self):
        return "Poller"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def post_sample(self, p, ps):
        poll()


script_callbacks.on_cfg_denoiser(evaluation)
script_callbacks.on_app_started(add_routes)
