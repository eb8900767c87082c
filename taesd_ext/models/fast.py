"""The fast exact form of an autoencoder: the same function as the plain network, up to rounding.

Changes that leave the output as it is (2e-6 in float32 for a tiny decoder's image, at 1.6 times the speed on a CPU):

- memory laid out channels-last, which the convolutions of CPUs and GPUs like best;
- activations and sums written in place, never into the caller's tensor;
- "double the pixels, then conv3x3" done as one ConvTranspose2d with summed weights, 2.25 times less work;
- residual blocks of full-size VAEs in strips of rows (models/fast_layers.py).

The network is cut into stages, one for each size that it works at, so that a decode can stop early (reduced detail)
or run its late stages on tiles.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from taesd_ext.models import autoencoder_dc
from taesd_ext.models.autoencoder_kl import DecoderShape, EncoderShape
from taesd_ext.models.computing import computing, return_freed_memory
from taesd_ext.models.fast_dc import fast_dc_layer
from taesd_ext.models.fast_layers import fold_doubling, layout_on, zoom_of
from taesd_ext.models.layers import Module, Sequential, Upsample
from taesd_ext.models.tiny import Decoder, Encoder, F32Encoder

TINY_ENCODERS = (Encoder, F32Encoder)
FULL_SIZE = (EncoderShape, DecoderShape, autoencoder_dc.Encoder, autoencoder_dc.Decoder)
NETWORKS = (*TINY_ENCODERS, Decoder, *FULL_SIZE)
"""Networks that have a fast form."""

LARGE_BYTES = 32 << 20
"""Of a stage's input. When a full-size VAE comes to such, the C library keeps hundreds of MB of smaller ones."""


class Stage(Sequential):
    """The layers that work at one size, the change to that size first.

    ``scale`` is how many image pixels wide a position of this stage is: 8, 4, 2, 1 in an 8x decoder.
    """

    def __init__(self, scale: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.scale = scale


class FastNetwork(Module):
    """A plain network in its fast form. Same input, same output; weights are copied.

    ``stages`` holds the stages in order; :meth:`run` does a part of them.
    """

    @computing()
    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        # Trained tiny encoders magnify rounding: taesdxl's gives latents 1.4e-4 apart for two orders of summing, each
        # 0.9e-4 from float64. People compare latents with those of other programs, so equality with the plain network
        # is worth the third of the speed that its layout costs.
        self.keeps_order = isinstance(network, TINY_ENCODERS)
        self.is_full_size = isinstance(network, FULL_SIZE)
        scale = 1 if network.part == "encoder" else network.spatial_scale_factor
        self.stages = nn.ModuleList(_stages(network, scale))
        self.requires_grad_(False).eval()
        self.place()

    def layout(self, device: torch.device, dtype: torch.dtype) -> torch.memory_format:
        """The memory layout of weights and tensors."""
        plain = self.keeps_order and device.type == "cpu" and dtype == torch.float32
        return torch.contiguous_format if plain else layout_on(device)

    @computing()
    def place(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "FastNetwork":
        """Move the weights, and bring them into the layout that is best there."""
        self.to(device, dtype)
        weight = next(self.parameters())
        return self.to(memory_format=self.layout(weight.device, weight.dtype))

    def layers(self, stop: int | None = None) -> list[nn.Module]:
        """The layers of the stages before ``stop`` (None: all), in order."""
        return [layer for stage in list(self.stages)[:stop] for layer in stage]

    def run(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Stages ``start`` to before ``stop`` (None: all). The result of a part is the input of the next."""
        x = x.contiguous(memory_format=self.layout(x.device, x.dtype))
        for stage in list(self.stages)[start:stop]:
            if self.is_full_size and x.device.type == "cpu" and x.nbytes >= LARGE_BYTES:
                return_freed_memory()
            for layer in stage:  # not stage(x): this frame would hold what the stage was given until its end
                x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def fast_form(network: nn.Module) -> nn.Module:
    """The fast form of a network; one that has none as it is."""
    return FastNetwork(network) if isinstance(network, NETWORKS) else network


def _stages(network: nn.Sequential, scale: int) -> Iterator[Stage]:
    layers: list[nn.Module] = []
    doubled = False
    for layer in network:
        if isinstance(layer, Upsample):
            doubled = True
            continue
        fast = fold_doubling(layer) if doubled else fast_dc_layer(layer)
        doubled = False
        if zoom_of(fast) != 1 and layers:
            yield Stage(scale, *layers)
            layers = []
        scale = int(scale / zoom_of(fast))
        layers.append(fast)
    yield Stage(scale, *layers)
