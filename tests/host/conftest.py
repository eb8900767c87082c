"""The extension in a fake WebUI."""

import importlib
import importlib.util
import os
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from taesd_ext.codec import heads
from taesd_ext.host import register as register_module
from taesd_ext.host import webui as webui_module
from taesd_ext.models.tiny import Decoder, Encoder

TESTS = Path(__file__).resolve().parents[1]
MODULES = ("devices", "paths_internal", "processing", "progress", "script_callbacks", "sd_models", "sd_samplers_common")
ENTRY = TESTS.parent / "scripts" / "taesd_ext_script.py"


class Host:
    """Handles of the fake host's modules, and what its user does."""

    def __init__(self, models: Path) -> None:
        for name in (*MODULES, "shared"):
            setattr(self, name, importlib.import_module(f"modules.{name}"))
        self.paths_internal.models_path = str(models)
        self.opts, self.state = self.shared.opts, self.shared.state
        self.load_model(is_sd1=True)
        self.state_class = type(self.state)

    def load_model(self, **flags) -> None:
        self.sd_models.model_data.sd_model = self.sd_models.Model(**flags)

    def load_format(self, name: str, channels: int, **known) -> None:
        """A model whose latent format has this name, and says this of itself."""
        self.load_model(channels=channels)
        self.model.model_config = SimpleNamespace(latent_format=type(name, (), known)())

    @property
    def model(self):
        return self.sd_models.model_data.sd_model

    def load_scripts(self) -> None:
        """As at start: scripts are executed, then the UI is built."""
        self.run_entry()
        self.script_callbacks.call("before_ui")
        self.script_callbacks.call("ui_settings")

    def run_entry(self) -> None:
        spec = importlib.util.spec_from_file_location("taesd_ext_script.py", ENTRY)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.script = module.TaesdScript()

    def reload_ui(self) -> None:
        self.script_callbacks.call("script_unloaded")
        self.script_callbacks.callbacks.clear()
        self.load_scripts()

    def generate(self, *args, override=None, **kwargs):
        """-> (processing, pictures)"""
        p = self.processing.Processing(scripts=[self.script], **kwargs)
        p.override_settings = dict(override or {})
        self.script.args = args
        return p, self.processing.process_images(p)

    def remove_weights(self, pattern="*"):
        for path in (Path(self.paths_internal.models_path) / "VAE-taesd").glob(pattern):
            path.unlink()

    def interrupt_at(self, wanted):
        """What a generation is given as ``on_step`` to be interrupted after this step."""

        def on_step(_p, step):
            self.state.interrupted = step == wanted

        return on_step

    def poll(self):
        """As a page or an API client does, in a thread of its own; what the state shows then."""
        client = threading.Thread(target=self.state.set_current_image)
        client.start()
        client.join()
        return self.state.current_image

    def polled(self, **kwargs) -> list:
        """Generates, and polls after each step."""
        shown = []
        self.generate(on_step=lambda _p, _step: shown.append(self.poll()), **kwargs)
        return shown

    def seams(self) -> dict[str, object]:
        return {
            "samples_to_images_tensor": self.sd_samplers_common.samples_to_images_tensor,
            "images_tensor_to_samples": self.sd_samplers_common.images_tensor_to_samples,
            "processing.images_tensor_to_samples": self.processing.images_tensor_to_samples,
            "set_current_image": self.state_class.set_current_image,
            "assign_current_image": self.state_class.assign_current_image,
        }


@pytest.fixture
def bare_host(monkeypatch, tmp_path):
    """A fake host with nothing of ours in it."""
    monkeypatch.syspath_prepend(str(TESTS / "fake_webui"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(heads, "DATA", tmp_path / "no heads")  # those that are shipped fit no random weights
    monkeypatch.setattr(register_module, "PATIENCE", 30)  # on a busy machine the first step finds all loaded
    _forget_host()
    yield Host(tmp_path / "models")
    register_module.unregister()
    _forget_host()


@pytest.fixture(scope="session")
def three_families(tmp_path_factory) -> Path:
    """A folder with their weights, to copy."""
    folder = tmp_path_factory.mktemp("families")
    for seed, (family, channels) in enumerate((("taesd", 4), ("taesdxl", 4), ("taesd3", 16))):
        torch.manual_seed(seed)
        save_file(Decoder(channels).state_dict(), folder / f"{family}_decoder.safetensors")
        save_file(Encoder(channels).state_dict(), folder / f"{family}_encoder.safetensors")
    return folder


@pytest.fixture
def host(bare_host, three_families):
    """The same with the extension loaded, weights of three families in place, and TAESD previews at every step."""
    bare_host.folder = Path(bare_host.paths_internal.models_path) / "VAE-taesd"
    shutil.copytree(three_families, bare_host.folder, copy_function=os.link)
    bare_host.load_scripts()
    bare_host.opts.show_progress_type = "TAESD"
    bare_host.opts.taesd_ext_budget = 0
    bare_host.opts.taesd_ext_min_time = 0
    bare_host.opts.taesd_ext_detail = "full"
    return bare_host


@pytest.fixture
def extension(host):
    return register_module.register()


@pytest.fixture
def client_of(host, extension):
    """Makes a client of the REST routes; by default as where only the API is switched on."""

    def make(**arguments) -> TestClient:
        host.shared.cmd_opts = SimpleNamespace(**{"api": True, "nowebui": False, "api_auth": None, **arguments})
        app = FastAPI()
        extension.add_routes(None, app)
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture
def client(client_of):
    return client_of()


def _forget_host() -> None:
    register_module._extension = None
    webui_module._webui = None
    for name in [name for name in sys.modules if name.split(".")[0] == "modules"]:
        del sys.modules[name]
