"""A1111's "Approx NN" preview, for comparison: eight small convolutions on the doubled latent.

Structure read off the published weight files (model.pt, vaeapprox-sdxl.pt, vaeapprox-sd3.pt).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.errors import TaesdError, log_once
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.computing import computing
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.tiny_file import build_frozen

SCALE = 4
"""Full-size pixels along a side of one pixel of its picture."""

_CHANNELS = (8, 16, 32, 64, 32, 16, 8, 3)
_KERNELS = (7, 5, 3, 3, 3, 3, 3, 3)
_SLOPE = 0.1


class ApproxNN(nn.Module):
    """(B,C,h,w) latent -> (B,3,2h,2w) pixels, about [-1,1]."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        sizes = zip((latent_channels, *_CHANNELS), _CHANNELS, _KERNELS, strict=False)
        for number, (channels_in, channels_out, kernel) in enumerate(sizes, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels_in, channels_out, kernel))

    def forward(self, latent: Tensor) -> Tensor:
        x = functional.interpolate(latent, scale_factor=2)
        # The convolutions have no padding of their own; this margin is what all of them take off together.
        x = functional.pad(x, [sum(kernel // 2 for kernel in _KERNELS)] * 4)
        for conv in self.children():
            x = functional.leaky_relu(conv(x), _SLOPE)
        return x


def find_approx_nn(format_name: str, folders: Sequence[Path]) -> Callable[[Tensor], Tensor] | None:
    """The preview of a latent format, latent -> image in [0,1], where its file lies in a folder or its VAE-approx."""
    row = BY_NAME.get(format_name)
    name = row.approx_nn if row else ""
    places = [place / name for folder in folders for place in (folder, folder / "VAE-approx")] if name else []
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        file = open_tensor_file(path)
        state = {key: value.float() for key, value in file.load(list(file.shapes)).items()}
        with torch.device("meta"):
            network = ApproxNN(state["conv1.weight"].shape[1])
        network = build_frozen(network, state)
    except (TaesdError, KeyError, RuntimeError) as error:
        log_once(f"approx {path}", f"{path} is not an Approx NN file: {error}")
        return None

    @computing()
    def preview(latent: Tensor) -> Tensor:
        return (network(latent.float()) * 0.5 + 0.5).clamp_(0, 1)

    return preview
