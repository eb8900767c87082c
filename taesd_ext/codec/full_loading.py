"""From a full-size VAE in a weight file to a Codec."""

from __future__ import annotations

import torch

from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.codec.codec import Codec, Source
from taesd_ext.codec.precision import DtypeChoice, resolve_dtype
from taesd_ext.errors import log, log_once
from taesd_ext.models.layers import pad_by
from taesd_ext.weights.vae_file import FullVAE


def full_codec(found: FullVAE, device: str | torch.device = "cpu", dtype: DtypeChoice = None) -> Codec:
    """The Codec of a VAE that was found; big pictures go through it in blended tiles.

    A VAE whose activations pass float16's range runs in float32 where float16 was asked for, which is said once.
    """
    chosen = resolve_dtype(dtype, device)
    if chosen == torch.float16 and found.float16_overflows:
        chosen = torch.float32
        log_once(f"no float16 for {found.name}", f"{found.name} overflows in float16: it runs in float32.")
    networks = {part: half.build() for part, half in found.parts.items()}
    for network in networks.values():
        pad_by(network, found.borders)
        scale = getattr(network, "image_scale", 1)
        network.tiler = BlendedTiler(found.latent_format.spatial_scale_factor, image_scale=scale)
    source = Source(**{part: half.file.path for part, half in found.parts.items()}, reason=found.reason)
    log.info("[TAESD] %s is %s: %s.", source.decoder or source.encoder, found.name, found.reason)
    return Codec(found.name, found.latent_format, device=device, dtype=chosen, source=source, **networks)
