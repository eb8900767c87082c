"""Networks onto a device, in their fast form where that is right there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from taesd_ext.codec.memory import is_out_of_memory
from taesd_ext.codec.noise import seeded
from taesd_ext.errors import log_once, one_line
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork, fast_decoder, fast_encoder
from taesd_ext.models.fast_full import fast_full
from taesd_ext.models.full_vae import FullDecoder, FullEncoder

LARGEST_DIFFERENCE = {torch.float32: 3e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Root mean square of fast minus plain over that of the plain result. Two orders of summing differ by 1e-6, 3e-4 and
2e-3; float32 has room for a card's TF32, and all have for weights that magnify rounding. A fault is 0.1 or more."""

_CHECK_SIDES = (9, 14)
"""Latent positions: odd and even, and not square."""
_CHECK_SEED = 20_240_608


def placed(
    plain: nn.Module | None, part: str, latent_format: LatentFormat, device: torch.device, dtype: torch.dtype
) -> nn.Module | None:
    """The network that computes for a plain "encoder" or "decoder" on this device, in this type.

    The plain network is left alone, but for that of a full-size VAE in float32, which is too big to be held twice: it
    becomes the fast form itself. The fast form is believed at once on a CPU only: elsewhere it is compared with the
    plain one, which computes if they differ by more than rounding.
    """
    if plain is None:
        return None
    with computing(device):
        if isinstance(plain, (FullEncoder, FullDecoder)):
            vae = plain if dtype == torch.float32 else copy.deepcopy(plain)
            vae.network = _quickest(vae.network, fast_full, part, latent_format, device, dtype)
            return vae.to(device, dtype).requires_grad_(False).eval()
        fast = fast_encoder if part == "encoder" else fast_decoder
        return _quickest(plain, fast, part, latent_format, device, dtype)


def _quickest(
    plain: nn.Module, fast_form: Callable[[nn.Module], nn.Module], part: str, latent_format: LatentFormat,
    device: torch.device, dtype: torch.dtype,
) -> nn.Module:  # fmt: skip
    fast = fast_form(plain)
    if fast is plain:
        own = plain if dtype == torch.float32 else copy.deepcopy(plain)
        return own.to(device, dtype).requires_grad_(False).eval()
    form = type(fast) if isinstance(fast, FastNetwork) else FastNetwork
    fast.to(device, dtype).to(memory_format=form.layout(device, dtype))
    if device.type == "cpu":
        return fast
    there = copy.deepcopy(plain).to(device, dtype)
    why = difference(fast, there, _sample(part, latent_format).to(device, dtype))
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


def _sample(part: str, latent_format: LatentFormat) -> Tensor:
    if part == "encoder":
        sides = (latent_format.spatial_scale_factor * side for side in _CHECK_SIDES)
        return torch.rand(1, 3, *sides, generator=seeded(_CHECK_SEED))
    return torch.randn(1, latent_format.latent_channels, *_CHECK_SIDES, generator=seeded(_CHECK_SEED))
