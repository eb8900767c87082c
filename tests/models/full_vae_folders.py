"""Folders and files of full-size VAEs, changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from original_layouts import State
from safetensors.torch import load_file, save_file
from torch import nn

from taesd_ext.models.autoencoder_wan import last_step

FILE = "diffusion_pytorch_model.safetensors"

FolderOf = Callable[[str], tuple[nn.Module, Path]]
"""Kind -> diffusers' small VAE and the folder that it saved."""


def copied(folder: Path, to: Path, change: Callable[[State], object] = lambda state: None, **config: object) -> Path:
    """A folder of our own, with other weights or another config."""
    shutil.copytree(folder, to)
    state = load_file(folder / FILE)
    change(state)
    save_file(state, to / FILE)
    told = json.loads((folder / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(told | config))
    return to


def flat(state: State) -> State:
    """As the files of Qwen2D are: kernels without time, and nothing that works in time."""
    return {key: last_step(value).contiguous() for key, value in state.items() if "time_conv" not in key}


def write(state: State, path: Path) -> Path:
    if path.suffix == ".ckpt":
        torch.save({"state_dict": state, "global_step": 840000}, path)
    elif path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:  # a TorchScript program
        root = nn.Module()
        for key, value in state.items():
            *places, name = key.split(".")
            module = root
            for place in places:
                if not hasattr(module, place):
                    module.add_module(place, nn.Module())
                module = getattr(module, place)
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
        torch.jit.script(root).save(path)
    return path
