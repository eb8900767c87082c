"""The fast exact form of a tiny autoencoder: the same function as the plain network, about 1.6 times as fast on a CPU.

Three changes that leave the output as it is, up to rounding (2e-6 in float32 for an image, nothing for a latent):

- memory laid out channels-last, which the convolutions of CPUs and GPUs like best (but see :class:`FastEncoder`);
- activations and skip additions written in place, never into the caller's tensor;
- "double the pixels, then conv3x3" done as one ConvTranspose2d with summed weights, 2.25 times less work.

The network is cut into stages, one for each size that it works at, so that a decode can stop early (reduced detail)
or run its late stages on tiles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.computing import computing
from taesd_ext.models.layers import CIRCULAR, Conv2d, ConvTranspose2d, Module, ReLU, Sequential, Upsample
from taesd_ext.models.tiny import CLAMP_MAGNITUDE, Block, Clamp, Decoder, Encoder, F32Decoder, F32Encoder

# Row: position in the 4-tap kernel of the transposed convolution; column: tap of the 3-tap kernel that it sums.
# Pixel 2i of the doubled signal u has u[2i-1] = x[i-1] and u[2i] = u[2i+1] = x[i], hence w0 x[i-1] + (w1+w2) x[i];
# pixel 2i+1 likewise (w0+w1) x[i] + w2 x[i+1]. A transposed convolution (stride 2, padding 1) adds x[i] k[o+1-2i] to o.
_TAPS = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


_TRUSTED = ("cpu", "cuda")


def is_trusted(device: torch.device) -> bool:
    """Whether channels-last tensors, writing in place and views of a part are right here.

    Apple's MPS has known faults in all three (pytorch#134618, pytorch#180984); of other devices nobody knows.
    """
    return device.type in _TRUSTED


def added(newest: Tensor, x: Tensor) -> Tensor:
    """Their sum, written over the newest where that is right."""
    return newest.add_(x) if is_trusted(x.device) else newest + x


class FastReLU(ReLU):
    """Writes into its input, the newest tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() if is_trusted(x.device) else x.relu()


class FastClamp(Module):
    """Soft clamp to (-3, 3) with one temporary."""

    def forward(self, latent: Tensor) -> Tensor:
        x = latent / CLAMP_MAGNITUDE
        return x.tanh_().mul_(CLAMP_MAGNITUDE) if is_trusted(x.device) else x.tanh() * CLAMP_MAGNITUDE


class FastBlock(Module):
    """:class:`tiny.Block` with every sum and activation in place of the newest tensor. (B,C,h,w) -> (B,C,h,w)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = Sequential(*fast_layers(block.conv, _TINY_FORMS))
        self.pool = None if block.pool is None else Sequential(*fast_layers(block.pool, _TINY_FORMS))
        self.fuse = FastReLU()

    def before_relu(self, x: Tensor) -> Tensor:
        """The block's sum, to which the last ReLU is still to be applied."""
        if self.pool is not None:
            x = added(self._by_groups(x), x)
        return added(self.conv(x), x)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(self.before_relu(x))

    def _by_groups(self, x: Tensor) -> Tensor:
        """The pool, one group of its norm after the other: a third of the memory in the same time."""
        widen, norm, relu, narrow = self.pool
        pooled: Tensor | None = None
        parts = (weight.chunk(norm.num_groups) for weight in (widen.weight, norm.weight, norm.bias))
        for wide, scale, shift, back in zip(*parts, narrow.weight.chunk(norm.num_groups, dim=1), strict=True):
            group = relu(functional.group_norm(functional.conv2d(x, wide), 1, scale, shift, norm.eps))
            part = functional.conv2d(group, back)
            pooled = part if pooled is None else added(pooled, part)
        return pooled


class Doubling(ConvTranspose2d):
    """Nearest x2 upsampling and a 3x3 convolution in one. (B,C,h,w) -> (B,C',2h,2w).

    In float32 on a CPU the border of zeros is written out instead of implied: the library adds up in another order
    where it implies one, depending on the picture's size, and a tile would differ in the last bit from the whole.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool) -> None:
        super().__init__(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode != "zeros":
            # Beyond a doubled border lies the border's own position, reflected or repeated.
            x = functional.pad(x, (1, 1, 1, 1), mode=CIRCULAR if self.padding_mode == CIRCULAR else "replicate")
        elif x.device.type == "cpu" and x.dtype == torch.float32:
            x = _bordered(x)
        else:
            return super().forward(x)
        return functional.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=3)


def _bordered(x: Tensor) -> Tensor:
    """One position of zeros on each side, channels-last."""
    batch, channels, height, width = x.shape
    wide = torch.empty(
        (batch, channels, height + 2, width + 2), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    for side in (wide[:, :, 0], wide[:, :, -1], wide[:, :, :, 0], wide[:, :, :, -1]):
        side.zero_()
    wide[:, :, 1:-1, 1:-1] = x
    return wide


class Stage(Sequential):
    """The layers that work at one size, the change to that size first.

    ``scale`` is how many image pixels wide a position of this stage is: 8, 4, 2, 1 in an 8x decoder.
    """

    def __init__(self, scale: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.scale = scale


class FastNetwork(Module):
    """A plain tiny encoder or decoder in its fast form. Same input, same output.

    ``stages`` holds the stages in order; :meth:`run` does a part of them. Weights are copied from the plain network.
    """

    @computing()
    def __init__(self, network: nn.Sequential, scale: int) -> None:
        """``scale``: image pixels per position of the network's input (1 for an encoder, 8 or 32 for a decoder)."""
        super().__init__()
        self.stages = nn.ModuleList(_cut_into_stages(network, scale))
        self.requires_grad_(False).eval()
        self.place()

    @staticmethod
    def layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
        """The memory layout of weights and tensors."""
        return torch.channels_last if is_trusted(device) else torch.contiguous_format

    @computing()
    def place(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> FastNetwork:
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
            x = stage(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class FastEncoder(FastNetwork):
    """In float32 on a CPU the layout stays the plain one, where the convolutions sum in the plain network's order.

    Trained encoders magnify rounding: taesdxl's gives latents 1.4e-4 apart for two orders, each 0.9e-4 from float64.
    People compare latents with those of other programs, so equality is worth the third of the speed that it costs.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__(network, 1)

    @staticmethod
    def layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
        plain = device.type == "cpu" and dtype == torch.float32
        return torch.contiguous_format if plain else FastNetwork.layout(device, dtype)


class FastDecoder(FastNetwork):
    def __init__(self, network: nn.Sequential) -> None:
        super().__init__(network, network.spatial_scale_factor)


def fast_encoder(network: nn.Module) -> nn.Module:
    """The fast form of a tiny encoder; any other network as it is."""
    return FastEncoder(network) if isinstance(network, (Encoder, F32Encoder)) else network


def fast_decoder(network: nn.Module) -> nn.Module:
    """The fast form of a tiny decoder; any other network as it is."""
    return FastDecoder(network) if isinstance(network, (Decoder, F32Decoder)) else network


def fold_doubling(conv: nn.Conv2d) -> Doubling:
    """A nearest x2 upsampling followed by ``conv`` (3x3, stride 1, padding 1) as one transposed convolution."""
    taps = torch.tensor(_TAPS, dtype=torch.float64, device=conv.weight.device)
    kernel = torch.einsum("ah,oihw,bw->ioab", taps, conv.weight.double(), taps)
    with torch.device("meta"):
        folded = Doubling(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
    folded.padding_mode = conv.padding_mode
    folded.weight = nn.Parameter(kernel.to(conv.weight.dtype), requires_grad=False)
    if conv.bias is not None:
        folded.bias = nn.Parameter(conv.bias.clone(), requires_grad=False)
    return folded


def fast_layers(layers: Iterable[nn.Module], forms: Mapping[type, FastForm]) -> Iterator[nn.Module]:
    """The layers in their fast ``forms``, or copied where they have none, and each doubling folded into what follows.

    A form may overwrite its input where that always is the newest tensor, one that a layer before it has made.
    """
    doubled = False
    for layer in layers:
        if isinstance(layer, Upsample):
            doubled = True
            continue
        yield fold_doubling(layer) if doubled else forms.get(type(layer), copy.deepcopy)(layer)
        doubled = False


def _cut_into_stages(network: nn.Sequential, scale: int) -> list[Stage]:
    stages: list[Stage] = []
    layers: list[nn.Module] = []
    for layer in fast_layers(network, _TINY_FORMS):
        doubles = isinstance(layer, Doubling)
        halves = isinstance(layer, Conv2d) and layer.stride == (2, 2)
        if (doubles or halves) and layers:
            stages.append(Stage(scale, *layers))
            layers = []
        scale = scale // 2 if doubles else scale * 2 if halves else scale
        layers.append(layer)
    return [*stages, Stage(scale, *layers)]


FastForm = Callable[[nn.Module], nn.Module]

_TINY_FORMS: dict[type, FastForm] = {Block: FastBlock, Clamp: lambda _: FastClamp(), ReLU: lambda _: FastReLU()}
