"""Keeps what the sampler takes the finished picture to be, evaluation by evaluation, while there is a folder for it."""

from pathlib import Path

import torch
from modules import script_callbacks, scripts

FOLDER = Path(scripts.basedir()).parent.parent / "trajectory"


def keep(params):
    if FOLDER.is_dir():
        number = len(list(FOLDER.glob("*.pt")))
        torch.save(params.x[:1].detach().float().cpu(), FOLDER / f"{number:04}.pt")


if hasattr(script_callbacks, "on_cfg_after_cfg"):
    script_callbacks.on_cfg_after_cfg(keep)
