"""What the hosts differ in when they are started and driven: a row each."""

import lzma
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fork_checkpoints import CHECKPOINTS
from host_source import HostSource

BASE_OF_FORKS = "small_sd15"


@dataclass(frozen=True)
class Host:
    """``checkpoints``: the family of tiny autoencoder of each checkpoint that it takes, the first one its default."""

    checkpoints: Mapping[str, str]
    flags: tuple[str, ...] = ()
    loads_at_start: bool = False
    """Whether its first checkpoint is loaded soon after the start, rather than with the first generation."""
    memory_modes: tuple[str, ...] = ()
    """Flags under which it makes previews in the sampling thread."""
    has_sd_vae: bool = True
    """Whether a VAE's file is chosen by the SD VAE setting; else it is one of the checkpoint's additional modules."""
    refines: bool = True
    """Whether its refiner may be a checkpoint of another kind."""
    reads_infotext: bool = True
    """Whether a request over its API may hold an infotext."""
    pastes_prompt: bool = True
    """Whether the prompt of an infotext reaches another tab of its page."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What its config.json holds at the first start."""
    marks_settings: bool = False
    """Whether it takes a config.json without its mark for an older version's, and waits for somebody to press Enter."""
    hires_request: Mapping[str, Any] = field(default_factory=dict)
    """What a request for hires fix over the API must name."""

    def vae_override(self, path: Path) -> dict[str, Any]:
        """Options by which the host itself takes a VAE."""
        return {"sd_vae": path.name} if self.has_sd_vae else {"forge_additional_modules": [str(path)]}


SERVE_HOME = "--gradio-allowed-path={home}"
"""The forks serve their page's scripts from the data folder only."""

NO_DOWNLOAD = "--no-download-sd-model"

NO_NORM = {"emphasis": "No norm"}
"""The text encoders of the forks' checkpoints are filler, whose output's mean is 0 but for rounding: by that the hosts
would divide."""

HOSTS = {
    "a1111": Host(
        {"taesd": "tiny_sd1", "taesdxl": "tiny_sdxl"},
        ("--use-cpu", "all", "--no-half", "--do-not-download-clip", NO_DOWNLOAD),
        loads_at_start=True,
        memory_modes=("--medvram", "--lowvram"),
    ),
    "forge": Host(
        {"taesd": BASE_OF_FORKS, "taesdxl": "small_sdxl", "taesd3": "small_sd_three"},
        ("--always-cpu", SERVE_HOME, NO_DOWNLOAD),
        settings={**NO_NORM, "forge_additional_modules": []},  # an override is undone only of what has a value
        has_sd_vae=False,
        reads_infotext=False,  # it compares values with parameterized generics, a TypeError
        hires_request={"hr_additional_modules": ["Use same choices"]},  # it stumbles over its absence
    ),
    "reforge": Host(
        {"taesd": BASE_OF_FORKS, "taesdxl": "small_sdxl", "taef2": "small_sdxl_flux2"},
        ("--always-cpu", SERVE_HOME, NO_DOWNLOAD),
        settings=NO_NORM,
    ),
    "classic": Host(
        {"taesd": BASE_OF_FORKS, "taesdxl": "small_sdxl"},
        ("--always-cpu", SERVE_HOME, NO_DOWNLOAD),
        settings=NO_NORM,
    ),
    "neo": Host(
        {"taesd": BASE_OF_FORKS, "taesdxl": "small_sdxl"},
        ("--cpu", SERVE_HOME),
        settings={**NO_NORM, "forge_additional_modules": []},
        marks_settings=True,
        has_sd_vae=False,
        pastes_prompt=False,  # it pastes what is of the type of the field's first value, which is None there
        hires_request={"hr_additional_modules": ["Use same choices"]},
    ),
}


def host_of(home: Path) -> Host:
    """The row of the WebUI in a folder. Raises KeyError for one that has none."""
    return HOSTS[HostSource(home).kind]


def first_settings(home: Path) -> dict[str, Any]:
    """What the WebUI's config.json must hold before it starts for the first time."""
    source = HostSource(home)
    row = HOSTS[source.kind]
    mark = {"VERSION_UID": source.literal("modules/launch_utils.py", "VERSION_UID")} if row.marks_settings else {}
    return {**row.settings, **mark}


def put_checkpoints(host: Host, shared: Path, folder: Path) -> Path:
    """All checkpoints that the host takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in host.checkpoints.values():
        path = folder / f"{name}.safetensors"
        if make := CHECKPOINTS.get(name):
            make(folder / f"{BASE_OF_FORKS}.safetensors", path)
            continue
        with lzma.open(shared / "webui" / f"{name}.safetensors.xz") as packed:
            path.write_bytes(packed.read())
        if (shared / "webui" / f"{name}.yaml").exists():
            shutil.copy(shared / "webui" / f"{name}.yaml", folder)
    return folder
