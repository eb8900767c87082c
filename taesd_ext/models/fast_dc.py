"""The fast layers of a DC-AE (models/autoencoder_dc.py)."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.autoencoder_dc import NORM_EPS, EfficientViTBlock, GatedConv, ResBlock, RMSNorm, Up
from taesd_ext.models.fast_layers import added, convolve, fast_layer, fold_doubling, is_trusted
from taesd_ext.models.layers import Module, Sequential


class FastRMSNorm(Module):
    """Written over its input, the newest tensor. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.norm = copy.deepcopy(norm)

    def forward(self, x: Tensor) -> Tensor:
        if not is_trusted(x.device):
            return self.norm(x)
        weight, bias = (values.view(-1, 1, 1) for values in (self.norm.weight, self.norm.bias))
        exact = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)
        x.mul_(torch.rsqrt(length.square() / len(weight) + NORM_EPS))
        return torch.addcmul(bias, x, weight, out=x)


class FastResBlock(Module):
    """Convolutions in strips; activation, norm and sum in place. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = copy.deepcopy(block.conv1), copy.deepcopy(block.conv2)
        self.activation, self.norm = fast_dc_layer(block.activation), fast_dc_layer(block.norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(convolve(x, self.conv1))
        return added(self.norm(convolve(y, self.conv2)), x)


class FastGatedConv(Module):
    """Activations, product and sum in place. (B,C,h,w) -> (B,C,h,w)"""

    def __init__(self, block: GatedConv) -> None:
        super().__init__()
        self.block, self.norm = copy.deepcopy(block), FastRMSNorm(block.norm)

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        if not is_trusted(x.device):
            return block(x)
        values, gate = block.depth(functional.silu(block.inverted(x), inplace=True)).chunk(2, dim=1)
        return self.norm(block.point(values.mul_(functional.silu(gate, inplace=True)))).add_(x)


class FastUp(Module):
    """The doubling folded, or the convolution in strips. (B,C,h,w) -> (B,C',2h,2w)"""

    zoom = 2

    def __init__(self, up: Up) -> None:
        super().__init__()
        self.conv = fold_doubling(up) if up.interpolate else copy.deepcopy(up)
        self.interpolate, self.repeats = up.interpolate, up.repeats

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) if self.interpolate else functional.pixel_shuffle(convolve(x, self.conv), 2)
        return added(y, functional.pixel_shuffle(x.repeat_interleave(self.repeats, dim=1), 2)) if self.repeats else y


def fast_dc_layer(layer: nn.Module) -> nn.Module:
    """:func:`fast_layers.fast_layer`, for the layers of a DC-AE too."""
    return _FORMS.get(type(layer), fast_layer)(layer)


_FORMS: dict[type, Callable[[nn.Module], nn.Module]] = {
    EfficientViTBlock: lambda block: Sequential(*map(fast_dc_layer, block)),
    GatedConv: FastGatedConv,
    ResBlock: FastResBlock,
    RMSNorm: FastRMSNorm,
    Up: FastUp,
}
