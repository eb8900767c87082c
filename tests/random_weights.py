"""Random weights for networks whose trained ones are not needed, of a size that keeps the values in bounds."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext.models import tiny, tiny_video


def random_weights(network: nn.Module, seed: int = 4, prefix: str = "") -> dict[str, Tensor]:
    """A state dict, each name with ``prefix`` in front."""
    generator = torch.Generator().manual_seed(seed)
    return {
        prefix + key: torch.randn(value.shape, generator=generator) * 0.8 / max(1, value[0].numel()) ** 0.5
        for key, value in network.state_dict().items()
    }


def save_taef2(folder: Path) -> None:
    """FLUX.2's encoder and decoder in the original layout."""
    for part, network in (("encoder", tiny.Encoder), ("decoder", tiny.Decoder)):
        save_file(random_weights(network(32, midblock_norm=True)), folder / f"taef2_{part}.safetensors")


def save_taew2_1(folder: Path) -> None:
    """Wan's encoder and decoder in one file."""
    encoder = random_weights(tiny_video.VideoEncoder(), prefix="encoder.")
    decoder = random_weights(tiny_video.VideoDecoder(), seed=5, prefix="decoder.")
    for name, value in decoder.items():  # a picture of some contrast about grey
        value *= 0 if name.endswith("bias") else 15 if name == "decoder.22.weight" else 1
    decoder["decoder.22.bias"].fill_(0.5)
    save_file(encoder | decoder, folder / "taew2_1.safetensors")
