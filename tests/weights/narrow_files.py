"""Weight files of tiny autoencoders with few channels inside: what a family is told by is at their ends."""

from pathlib import Path

import torch
from random_weights import random_weights
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext.latent_formats import native_format
from taesd_ext.models import tiny, tiny_video

NARROW = (8, 8, 8, 8)


def narrow(family: str, part: str = "decoder") -> nn.Module:
    """The family's network."""
    row = native_format(family)
    channels, factor, encoder = row.latent_channels, row.spatial_scale_factor, part == "encoder"
    if row.frames:
        if encoder:
            return tiny_video.VideoEncoder(channels, row.splits[::-1], factor // 8, 8)
        return tiny_video.VideoDecoder(channels, NARROW, row.splits, factor // 8)
    if factor == 16:
        return (tiny.F16Encoder if encoder else tiny.F16Decoder)(channels, widths=NARROW)
    if factor == 32:
        return tiny.F32Encoder(channels, (8,) * 5) if encoder else tiny.F32Decoder(channels, (8,) * 6)
    return (tiny.Encoder if encoder else tiny.Decoder)(channels, NARROW, midblock_norm=row.midblock_norm)


def own_weights(family: str = "taesd", part: str = "decoder", prefix: str = "") -> dict[str, Tensor]:
    """Nobody has trained these: no value tells their family."""
    return random_weights(narrow(family, part), prefix=prefix)


def saved(path: Path, state: dict[str, Tensor] | None = None, metadata: dict[str, str] | None = None) -> Path:
    """The file with these weights, or with a decoder's of four channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = own_weights() if state is None else state
    if path.suffix in (".safetensors", ".sft"):
        save_file(state, path, metadata)
    else:
        torch.save(state, path)
    return path


def both_parts(family: str, decoder: nn.Module | None = None) -> dict[str, Tensor]:
    """Both parts behind their names."""
    decoder = decoder or narrow(family)
    return own_weights(family, "encoder", "encoder.") | random_weights(decoder, prefix="decoder.")


VARIANTS: dict[str, tuple[str, nn.Module]] = {
    "lighttaew2_1": ("taew2_1", narrow("taew2_1")),
    "lighttaew2_2": ("taew2_2", narrow("taew2_2")),
    "lighttaehy1_5": ("taehv1_5", narrow("taehv1_5")),
    "taeltx2_3_wide": ("taeltx2_3", tiny_video.VideoDecoder(128, NARROW, (2, 2, 2), 4, wide=True)),
    "taehv1_5_super": ("taehv1_5", tiny_video.SuperVideoDecoder(32, NARROW)),
    "taew2_2_super": ("taew2_2", tiny_video.SuperVideoDecoder(48, NARROW)),
    "taeqi2_1_tinier": ("taeqi2_1", tiny.F16Decoder(64, widths=NARROW)),
}
"""Other tiny decoders that were published: the family that each serves, and its network."""
