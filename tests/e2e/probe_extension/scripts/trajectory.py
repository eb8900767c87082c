"""Keeps what the WebUI hands to previews, evaluation by evaluation, while there is a folder for it.

And what the network was last told of the prompt and of the negative one: (context, vector or None) of each.
"""

from pathlib import Path

import torch
from modules import script_callbacks, scripts, shared

FOLDER = Path(scripts.basedir()).parent.parent / "trajectory"


def keep(_):
    if FOLDER.is_dir():
        number = len(list(FOLDER.glob("0*.pt")))
        torch.save(shared.state.current_latent[:1].detach().float().cpu(), FOLDER / f"{number:04}.pt")


def keep_conditions(params):
    if FOLDER.is_dir():
        told = [
            (condition["crossattn"], condition["vector"]) if isinstance(condition, dict) else (condition, None)
            for condition in (params.text_cond, params.text_uncond)
        ]
        torch.save(told, FOLDER / "conditions.pt")


if hasattr(script_callbacks, "on_cfg_after_cfg"):
    script_callbacks.on_cfg_after_cfg(keep)
script_callbacks.on_cfg_denoiser(keep_conditions)
