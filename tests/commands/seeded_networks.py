"""Seeded tiny networks that are not dull."""

import torch

from taesd_ext.models import tiny

NETWORKS = {
    "taesd": (tiny.Encoder, tiny.Decoder, 4, {}),
    "taesd3": (tiny.Encoder, tiny.Decoder, 16, {}),
    "taef1": (tiny.Encoder, tiny.Decoder, 16, {}),
    "taef2": (tiny.Encoder, tiny.Decoder, 32, {"midblock_norm": True}),
    "taesana": (tiny.F32Encoder, tiny.F32Decoder, 32, {}),
    "qwen21": (tiny.F16Encoder, tiny.F16Decoder, 64, {}),
    "qwen21-rgb": (tiny.F16Encoder, tiny.F16Decoder, 64, {"image_channels": 3}),
}


def network_of(kind: str, part: str) -> tiny.TinyNetwork:
    encoder, decoder, channels, more = NETWORKS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(len(kind))
        network = (encoder if part == "encoder" else decoder)(channels, **more)
        for module in network.modules():
            if isinstance(module, torch.nn.GroupNorm):
                torch.nn.init.normal_(module.weight)
                torch.nn.init.normal_(module.bias)
    return network.requires_grad_(False).eval()
