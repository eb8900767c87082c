"""A1111's "Approx NN" preview, for comparison: eight small convolutions on the doubled latent.

Structure read off the published weight files (model.pt, vaeapprox-sdxl.pt, vaeapprox-sd3.pt).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.errors import TaesdError, log_once
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.computing import computing
from taesd_ext.weights.tensor_file import open_tensor_file

SCALE = 4
"""Full-size pixels along a side of one pixel of its picture."""

_CONVOLUTIONS = 8
_SLOPE = 0.1


def find_approx_nn(format_name: str, folders: Sequence[Path]) -> Callable[[Tensor], Tensor] | None:
    """The preview of a latent format, latent -> image in [0,1], where its file lies in a folder or its VAE-approx."""
    row = BY_NAME.get(format_name)
    name = row.approx_nn if row else ""
    places = [place / name for folder in folders for place in (folder, folder / "VAE-approx")] if name else []
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None

    @computing()
    def preview(latent: Tensor) -> Tensor:
        x = functional.interpolate(latent.float(), scale_factor=2)
        # The convolutions have no padding of their own; this margin is what all of them take off together.
        x = functional.pad(x, [sum(weight.shape[-1] // 2 for weight, _ in convolutions)] * 4)
        for weight, bias in convolutions:
            x = functional.leaky_relu(functional.conv2d(x, weight, bias), _SLOPE)
        return (x * 0.5 + 0.5).clamp_(0, 1)

    try:
        file = open_tensor_file(path)
        state = {key: value.float() for key, value in file.load(list(file.shapes)).items()}
        convolutions = [(state[f"conv{i}.weight"], state[f"conv{i}.bias"]) for i in range(1, _CONVOLUTIONS + 1)]
        preview(torch.zeros(1, row.latent_channels, 1, 1))
    except (TaesdError, KeyError, RuntimeError) as error:
        log_once(f"approx {path}", f"{path} is not an Approx NN file: {error}")
        return None
    return preview
