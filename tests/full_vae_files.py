"""Files of the SD VAE in its original layout, without diffusers."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from taesd_ext.models import autoencoder_kl
from taesd_ext.weights.vae_layouts import LDM

PIECES = {"shortcut": ("nin_shortcut",), "qkv": ("q", "k", "v"), "out": ("proj_out",)}
"""A layer's piece in our networks -> in the file."""


def vae_state(
    channels: int = 4, prefix: str = "", *, parts: Iterable[str] = ("encoder", "decoder"), seed: int = 0
) -> dict[str, Tensor]:
    """As small as 32 groups allow, with the convolutions and the scale that such a VAE has."""
    generator = torch.Generator().manual_seed(seed)
    is_flux2 = channels == 32
    state = {f"{prefix}bn.{name}": torch.ones(128) for name in ("running_mean", "running_var") if is_flux2}
    for part in parts:
        network = getattr(autoencoder_kl, part.capitalize())(channels, (32, 32, 32, 32), quant_conv=channels != 16)
        layers = [
            name
            for name in getattr(LDM, part)
            if not str(name).endswith("quant_conv") or (channels != 16 and name.startswith(f"{part}.") == is_flux2)
        ]
        for key, value in network.state_dict().items():
            index, _, rest = key.partition(".")
            where, _, kind = rest.rpartition(".")
            names = PIECES.get(where, (where,))
            for name, piece in zip(names, value.chunk(len(names)), strict=True):
                own = ".".join(filter(None, (layers[int(index)], name, kind)))
                state[prefix + own] = 0.1 * torch.randn(piece.shape, generator=generator)
    return state


def write_vae(path: Path, channels: int = 4, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(vae_state(channels, **options), path)
    return path
