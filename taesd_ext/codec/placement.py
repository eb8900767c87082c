"""Networks onto a device, in their fast form where that is right there."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from taesd_ext.codec.memory import is_out_of_memory
from taesd_ext.codec.noise import seeded
from taesd_ext.errors import log_once, one_line
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastEncoder, FastNetwork, fast_decoder, fast_encoder

LARGEST_DIFFERENCE = {torch.float32: 3e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Root mean square of fast minus plain over that of the plain result. Two orders of summing differ by 1e-6, 3e-4 and
2e-3; float32 has room for a card's TF32, and all have for weights that magnify rounding. A fault is 0.1 or more."""

_CHECK_SIDES = (9, 14)
"""Latent positions: odd and even, and not square."""
_CHECK_SEED = 20_240_608


def placed(
    plain: nn.Module | None, part: str, channels: int, device: torch.device, dtype: torch.dtype
) -> nn.Module | None:
    """The network that computes for a plain "encoder" or "decoder" on this device, in this type.

    The plain network of a tiny autoencoder is left alone, as is that of any other in another type than float32. The
    fast form is believed at once on a CPU only: elsewhere it is compared with the plain one, which computes if they
    differ by more than rounding.
    """
    if plain is None:
        return None
    with computing(device):
        fast = fast_encoder(plain) if part == "encoder" else fast_decoder(plain)
        if not isinstance(fast, FastNetwork):
            own = plain if dtype == torch.float32 else copy.deepcopy(plain)
            return own.to(device, dtype).requires_grad_(False).eval()
        fast.place(device, dtype)
        if device.type == "cpu":
            return fast
        there = copy.deepcopy(plain).to(device, dtype)
        why = difference(fast, there, _sample(fast, channels).to(device, dtype))
        if not why:
            return fast
        log_once(f"plain {part} {device.type}", f"The plain {part} computes on {device.type}, not the fast one: {why}.")
        return there


def difference(fast: nn.Module, plain: nn.Module, x: Tensor) -> str:
    """Why the fast form cannot stand for the plain one here; "" where it can. Raises when memory runs out."""
    wanted = plain(x).float().cpu()
    if not wanted.isfinite().all():
        return ""  # this type cannot hold what these weights compute: nothing to compare
    try:
        result = fast(x).float().cpu()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return one_line(error)
    relative = float((result - wanted).square().mean().sqrt() / wanted.square().mean().sqrt().clamp_min(1e-6))
    return "" if relative <= LARGEST_DIFFERENCE.get(x.dtype, 3e-3) else f"its result is {relative:.0%} off"


def _sample(fast: FastNetwork, channels: int) -> Tensor:
    if isinstance(fast, FastEncoder):
        factor = fast.stages[-1].scale
        return torch.rand(1, 3, *(factor * side for side in _CHECK_SIDES), generator=seeded(_CHECK_SEED))
    return torch.randn(1, channels, *_CHECK_SIDES, generator=seeded(_CHECK_SEED))
