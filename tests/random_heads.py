"""Small random codecs and heads."""

from pathlib import Path

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import save_heads
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models import tiny
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.student import Head

NETWORKS = {
    "sd1": (tiny.Decoder, tiny.Encoder, {"latent_channels": 4}),
    "flux2": (tiny.Decoder, tiny.Encoder, {"latent_channels": 32, "midblock_norm": True}),
    "sana": (tiny.F32Decoder, tiny.F32Encoder, {}),
}


def make_codec(name: str = "sd1", seed: int = 0, brightness: float = 0.5, **options) -> Codec:
    decoder, encoder, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = {"decoder": decoder(**shape), "encoder": encoder(**shape)}
    for network in networks.values():
        network.requires_grad_(False).eval()
    with torch.no_grad():
        # A random network's pictures are near black: this one's lie around a grey.
        networks["decoder"][-1].weight *= 8
        networks["decoder"][-1].bias += brightness
    return Codec(BY_NAME[name].family, BY_NAME[name], **networks, **options)


def random_heads(seed: int = 0) -> dict[int, Head]:
    """Heads that show a grey with a little noise on it: they fit the decoders of grey pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        heads = {scale: Head(depth).requires_grad_(False).eval() for scale, depth in ((8, 2), (4, 0), (2, 1))}
    for head in heads.values():
        head.readout.weight *= 0.2
        head.readout.bias += 0.5
    return heads


def ship(codec: Codec, folder: Path) -> Path:
    """Put heads for this codec's decoder where shipped ones lie."""
    path = folder / f"heads_{codec.family}.safetensors"
    with torch.no_grad():
        save_heads(random_heads(), path, FastNetwork(codec.decoder), codec.family)
    return path
