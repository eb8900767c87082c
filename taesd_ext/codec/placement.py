"""Networks onto a device, in their fast form where that is right there, and over pictures of any size."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taesd_ext.codec.blended_tiles import BYTES_PER_PIXEL
from taesd_ext.codec.memory import USABLE, free_bytes, is_out_of_memory
from taesd_ext.codec.noise import seeded
from taesd_ext.codec.tiling import Output, run_layers
from taesd_ext.errors import log_once, one_line
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork, fast_form
from taesd_ext.models.full_vae import FullDecoder, FullEncoder, Tile

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
            vae.network = _quickest(vae.network, part, latent_format, device, dtype)
            return vae.to(device, dtype).requires_grad_(False).eval()
        return _quickest(plain, part, latent_format, device, dtype)


def _quickest(
    plain: nn.Module, part: str, latent_format: LatentFormat, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    fast = fast_form(plain)
    if fast is plain:
        own = plain if dtype == torch.float32 else copy.deepcopy(plain)
        return own.to(device, dtype).requires_grad_(False).eval()
    fast.place(device, dtype)
    if device.type == "cpu":
        return fast
    there = copy.deepcopy(plain).to(device, dtype)
    why = difference(fast, there, _sample(part, latent_format).to(device, dtype))
    if not why:
        return fast
    log_once(f"plain {part} {device.type}", f"The plain {part} is used on {device.type}: the fast one fails ({why}).")
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
    generator = seeded(_CHECK_SEED)
    if part == "encoder":
        sides = (latent_format.spatial_scale_factor * side for side in _CHECK_SIDES)
        return torch.rand(1, 3, *sides, generator=generator, dtype=torch.float32)
    return torch.randn(1, latent_format.latent_channels, *_CHECK_SIDES, generator=generator, dtype=torch.float32)


def run(
    network: nn.Module, x: Tensor, pixels: int, tile: Tile, output: Output, *,
    layers: Sequence[nn.Module] | None = None, **options: object,
) -> Tensor:  # fmt: skip
    """A network over ``x``, whose positions are ``pixels`` wide; or some ``layers`` of a fast one and a head."""
    free = free_bytes(x.device)
    usable = None if free is None else USABLE * free
    if isinstance(network, FastNetwork):
        layout = network.layout(x.device, x.dtype)
        return run_layers(layers or network.layers(), x, pixels, tile, output, layout=layout, whole_bytes=usable)
    if not isinstance(network, (FullEncoder, FullDecoder)):
        return output.whole(network(x, **options))
    if network.tiler:  # a full-size VAE cuts and blends tiles itself
        height, width = (pixels * side for side in x.shape[-2:])
        needed = height * width * x.element_size() * getattr(network.network, "bytes_per_pixel", BYTES_PER_PIXEL)
        if tile == "auto" and usable and needed <= usable:
            tile = "off"
        output.tile_side = network.tiler.chosen(tile).side_for(height, width)
    return output.whole(network(x, tile=tile, progress=output.progress, **options))
