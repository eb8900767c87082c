"""A real WebUI as a subprocess: started on a free port with a data folder of its own, driven over its API."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from webui_hosts import first_settings, host_of

ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).parent / "probe_extension"

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "SD_WEBUI_RESTARTING": "1",  # opens no browser
    "OMP_WAIT_POLICY": "PASSIVE",  # without these a second busy process makes everything many times slower
    "GOMP_SPINCOUNT": "0",
    "PYTHONUNBUFFERED": "1",
}
_FLAGS = (
    "--skip-prepare-environment", "--skip-install", "--skip-torch-cuda-test", "--skip-python-version-check",
    "--skip-version-check", "--api",
)  # fmt: skip

OPTIONS = {
    "show_progress_type": "TAESD",
    "sd_vae_decode_method": "Full",
    "sd_vae_encode_method": "Full",
    "live_previews_enable": True,
    "live_preview_fast_interrupt": False,
    "live_preview_refresh_period": 1000,
    "taesd_ext_family": "Auto",
    "taesd_ext_detail": "full",
    "taesd_ext_budget": 0,
    "taesd_ext_min_time": 0,
    "taesd_ext_interval": 1,
    "taesd_ext_decode_failure": "error",
}
"""TAESD previews at every step, everything else at its default."""

HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Lanczos", "denoising_strength": 0.7}
"""A request for hires fix, by way of a picture; "Latent" enlarges the latent itself."""

NO_PREVIEWS = {"live_previews_enable": False, "show_progress_type": "Approx cheap"}
"""For a WebUI without the extension; its own default asks for a download before it samples."""


@dataclass
class Result:
    """One generation as a client saw it."""

    images: list[Image.Image] = field(default_factory=list)
    infotexts: list[str] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    """Encoded frames in the order in which they came."""
    families: list[str] = field(default_factory=list)
    """The tiny decoder that drew each frame, as the extension says."""
    error: dict | None = None

    @property
    def infotext(self) -> str:
        return self.infotexts[0].splitlines()[-1]

    @property
    def frames(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(data)) for data in self.previews]


class WebUIServer:
    """Start it as a context manager."""

    def __init__(self, data: Path, checkpoints: Path, hf_home: Path, *flags: str, ours: bool = True) -> None:
        self.home, self.python = Path(os.environ["WEBUI_DIR"]), os.environ.get("WEBUI_PYTHON", "python")
        self.host = host_of(self.home)
        self.data, self.checkpoints, self.hf_home, self.flags = data, checkpoints, hf_home, flags
        extensions = data / "extensions"
        extensions.mkdir(parents=True, exist_ok=True)
        _link(extensions / "probe", PROBE)
        if ours:
            _link(extensions / "taesd-ext", ROOT)
        else:
            (extensions / "taesd-ext").unlink(missing_ok=True)
        config = data / "config.json"
        if (settings := first_settings(self.home)) and not config.exists():
            config.write_text(json.dumps(settings))
        self.log = data / "log.txt"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> "WebUIServer":
        host_flags = [flag.format(home=self.home) for flag in self.host.flags]
        command = [self.python, "launch.py", *_FLAGS, *host_flags, "--port", str(self.port),
                   "--data-dir", str(self.data), "--ckpt-dir", str(self.checkpoints), *self.flags]  # fmt: skip
        environment = {**os.environ, **_OFFLINE, "HF_HOME": str(self.hf_home)}
        environment.pop("PYTHONPATH", None)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=self.home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self.wait_for_start(0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_start(self, starts: int) -> None:
        """Until the log tells of one more start; an earlier request would break the server."""
        deadline = time.monotonic() + 900
        while self.output().count("Startup time:") <= starts:
            assert self.process.poll() is None, f"the WebUI ended: {self.output()[-3000:]}"
            assert time.monotonic() < deadline, f"the WebUI does not start: {self.output()[-3000:]}"
            time.sleep(0.5)
        while self.host.loads_at_start and "Model loaded in" not in self.output():
            assert time.monotonic() < deadline, self.output()[-3000:]
            time.sleep(0.5)

    def reload_ui(self) -> None:
        starts = self.output().count("Startup time:")
        self.call("/probe/reload", {})
        self.wait_for_start(starts)

    def call(self, path: str, data: Any = None, timeout: float = 900) -> Any:
        return json.loads(self.fetch(path, data, timeout))

    def fetch(self, path: str, data: Any = None, timeout: float = 900) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if data is None else json.dumps(data).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def set_options(self, **options: Any) -> None:
        self.call("/sdapi/v1/options", options)

    def choose_checkpoint(self, family: str) -> None:
        """Load the checkpoint of this family of tiny autoencoders, unless it is."""
        name = self.host.checkpoints[family]
        if not str(self.call("/sdapi/v1/options")["sd_model_checkpoint"]).startswith(f"{name}."):
            self.set_options(sd_model_checkpoint=f"{name}.safetensors")
        self.wait_for_decoder()

    def make_checkpoint(self, kind: str) -> int:
        """Make and load a small checkpoint of a kind of the probe's small_models.py: how many parameters it has."""
        parameters = self.call("/small/make", {"kind": kind, "folder": str(self.checkpoints)})
        self.call("/sdapi/v1/refresh-checkpoints", {})
        self.set_options(sd_model_checkpoint=f"{kind}.safetensors")
        self.wait_for_decoder()
        return parameters

    def wait_for_decoder(self) -> None:
        """Until what a loaded checkpoint's previews need is there: before that they are rougher."""
        while "taesd-ext-preload" in self.call("/faults/state")["threads"]:
            time.sleep(0.1)

    def recorded(self, name: str) -> Tensor:
        """A tensor of the last generation that the probe kept."""
        return torch.load(self.data / "latents" / f"{name}.pt", weights_only=True)

    def predictions(self) -> list[Tensor]:
        """What every evaluation of the last generation predicted, as the preview may show it."""
        return [self.recorded(path.stem) for path in sorted((self.data / "latents").glob("predicted*.pt"))]

    def generate(
        self, kind: str = "txt2img", *, poll: float | None = 0.05, at_frame: Any = None, **request: Any
    ) -> Result:
        """Run a generation while polling /internal/progress as the page does.

        ``at_frame(server, number)`` is called after each new frame.
        """
        task = f"task(e2e{time.monotonic_ns()})"
        result = Result()
        done = threading.Event()
        poller = threading.Thread(target=self._poll, args=(task, result, done, poll, at_frame))
        if poll is not None:
            poller.start()
        defaults = {"prompt": "scene", "steps": 8, "width": 128, "height": 128, "sampler_name": "Euler",
                    "cfg_scale": 4, "seed": 1, "force_task_id": task}  # fmt: skip
        if request.get("enable_hr"):
            defaults |= self.host.hires_request
        try:
            answer = self.call(f"/sdapi/v1/{kind}", {**defaults, **request})
            result.images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in answer["images"]]
            result.infotexts = json.loads(answer["info"])["infotexts"]
        except urllib.error.HTTPError as error:
            result.error = json.loads(error.read() or b"{}")
        finally:
            done.set()
            if poll is not None:
                poller.join()
        return result

    def _poll(self, task: str, result: Result, done: threading.Event, period: float, at_frame: Any) -> None:
        number = 0
        while not done.wait(period):
            answer = self.call("/internal/progress", {"id_task": task, "id_live_preview": number})
            if answer.get("live_preview") and answer["id_live_preview"] != number:
                number = answer["id_live_preview"]
                result.previews.append(base64.b64decode(answer["live_preview"].split(",")[1]))
                result.families.append(self.call("/probe/state")["family"])
                if at_frame:
                    at_frame(self, len(result.previews))


def levels_apart(one: Image.Image, other: Image.Image | np.ndarray) -> int:
    """The largest difference."""
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


def as_base64(image: Image.Image) -> str:
    """The picture as PNG, as the API takes it."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def link_weights(shared: Path, data: Path) -> Path:
    folder = data / "models" / "VAE-taesd"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (shared / "weights").iterdir():
        if path.suffix in (".safetensors", ".pth"):
            _link(folder / path.name, path)
    return folder


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)
