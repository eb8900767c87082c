"""A tiny network written layer by layer into another format, Keras or ONNX.

A writer has a method for each operation, which takes and returns the format's own handle of a tensor. Weights are
torch's: (out, in, height, width) for a convolution, (in, out, height, width) for a transposed one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.models.tiny import PATCH, Block, Clamp, FoldPatches, UnfoldPatches


def write_network(network: nn.Sequential, writer: Any, x: Any) -> Any:
    """Write every layer of a tiny encoder or decoder; the handle of its output."""
    channels = 0
    for layer in network:
        if isinstance(layer, UnfoldPatches):
            x = writer.conv_transpose(x, unfold_kernel(channels), PATCH)
        else:
            x = _write(layer, writer, x)
        channels = getattr(layer, "out_channels", channels)
    return x


def _write(layer: nn.Module, writer: Any, x: Any) -> Any:
    if isinstance(layer, nn.Conv2d):
        return writer.conv(x, layer.weight, layer.bias, layer.stride[0], layer.padding[0])
    if isinstance(layer, nn.ReLU):
        return writer.relu(x)
    if isinstance(layer, nn.Sequential):
        return write_network(layer, writer, x)
    if isinstance(layer, Block):
        if layer.pool is not None:
            x = writer.add(x, _write(layer.pool, writer, x))
        return writer.relu(writer.add(_write(layer.conv, writer, x), x))
    if isinstance(layer, nn.GroupNorm):
        return writer.group_norm(x, layer)
    if isinstance(layer, nn.Upsample):
        return writer.double(x)
    if isinstance(layer, Clamp):
        return writer.clamp(x)
    if isinstance(layer, FoldPatches):
        weight, bias = fold_kernel(layer.image_channels)
        return writer.conv(x, weight, bias, PATCH, 0)
    raise TaesdError(
        f"Cannot export a layer of kind {type(layer).__name__}", "other formats have no match for it",
        "Use --format safetensors",
    )  # fmt: skip


def fold_kernel(image_channels: int) -> tuple[Tensor, Tensor]:
    """FoldPatches as a convolution: each pixel of a square goes to a channel of its own, absent alpha is opaque."""
    weight = torch.zeros(image_channels * PATCH**2, 3, PATCH, PATCH)
    bias = torch.zeros(image_channels * PATCH**2)
    for channel in range(image_channels):
        for place in range(PATCH**2):
            if channel < 3:
                weight[channel * PATCH**2 + place, channel, place // PATCH, place % PATCH] = 1
            else:
                bias[channel * PATCH**2 + place] = 1
    return weight, bias


def unfold_kernel(folded_channels: int) -> Tensor:
    """UnfoldPatches as a transposed convolution, which leaves alpha out."""
    weight = torch.zeros(folded_channels, 3, PATCH, PATCH)
    for channel in range(3):
        for place in range(PATCH**2):
            weight[channel * PATCH**2 + place, channel, place // PATCH, place % PATCH] = 1
    return weight
