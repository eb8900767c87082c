"""The fast exact form of a full-size VAE: the same function as the plain network, quicker and in half the memory.

The changes of models/fast.py, and on a CPU in float32 one more: residual blocks go over the picture in strips of rows.
A norm and an activation are then applied to a strip that stays in the processor's cache, and no normalised copy of the
whole picture is ever made. GroupNorm's statistics are taken over the whole picture first, so strips change nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models.autoencoder_kl import ResBlock
from taesd_ext.models.fast import FastForm, added, fast_layers, is_trusted
from taesd_ext.models.layers import Conv2d, GroupNorm, Module, SiLU

STRIP_BYTES = 16 << 20
"""Of a convolution's input in a strip."""


class FastSiLU(SiLU):
    """Writes into its input, the newest tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x, inplace=is_trusted(x.device))


class FastResBlock(Module):
    """:class:`autoencoder_kl.ResBlock` in strips, or with activations and sums in place. (B,C,h,w) -> (B,C',h,w)"""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.norm1, self.conv1 = copy.deepcopy(block.norm1), copy.deepcopy(block.conv1)
        self.norm2, self.conv2 = copy.deepcopy(block.norm2), copy.deepcopy(block.conv2)
        self.shortcut = copy.deepcopy(block.shortcut)
        self.activation = FastSiLU()

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32 and self.conv1.padding_mode == "zeros":
            return self._in_strips(x)
        y = self.conv1(self.activation(self.norm1(x)))
        y = self.conv2(self.activation(self.norm2(y)))
        return added(y, self._carried(x))

    def _carried(self, x: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(x)

    def _in_strips(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        y = torch.empty((batch, self.conv1.out_channels, height, width), memory_format=torch.channels_last)

        def store(rows: slice, convolved: Tensor) -> None:
            y[:, :, rows] = convolved

        def store_sum(rows: slice, convolved: Tensor) -> None:
            y[:, :, rows] = convolved.add_(self._carried(x[:, :, rows]))

        _convolve_strips(x, self.norm1, self.conv1, store)
        _convolve_strips(y, self.norm2, self.conv2, store_sum)
        return y


def _convolve_strips(x: Tensor, norm: nn.Module, conv: Conv2d, store: Callable[[slice, Tensor], None]) -> None:
    """``conv(silu(norm(x)))``, told to ``store`` strip by strip; ``store`` may overwrite these rows of ``x``."""
    batch, channels, height, width = x.shape
    rows = min(height, max(1, STRIP_BYTES // (batch * channels * width * x.element_size())))
    strip = torch.empty((batch, channels, rows + 2, width), memory_format=torch.channels_last)
    strip[:, :, 0].zero_()
    activate = _norm_and_silu(norm, x)
    activate(x[:, :, :1], strip[:, :, 1:2])
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        # Row 0 of the strip is the one above it, row 1 its own first, made with the strip before: x may have changed.
        strip = strip[:, :, : stop - start + 2]
        below = min(stop + 1, height)
        activate(x[:, :, start + 1 : below], strip[:, :, 2 : below - start + 1])
        if below == height == stop:
            strip[:, :, -1].zero_()
        convolved = functional.conv2d(strip, conv.weight, conv.bias, padding=(0, 1))
        strip[:, :, :2] = strip[:, :, -2:].clone()
        store(slice(start, stop), convolved)


def _norm_and_silu(norm: nn.Module, x: Tensor) -> Callable[[Tensor, Tensor], None]:
    """What writes ``silu(norm(x))`` of the rows it is given to where it is told."""
    if isinstance(norm, GroupNorm):
        scale, shift = _scale_and_shift(norm, x)

        def activate(rows: Tensor, out: Tensor) -> None:
            torch.addcmul(shift, rows, scale, out=out)
            functional.silu(out, inplace=True)

    else:  # one that looks at each position alone

        def activate(rows: Tensor, out: Tensor) -> None:
            out.copy_(functional.silu(norm(rows), inplace=True))

    return activate


def _scale_and_shift(norm: GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B,C,1,1) each: the norm of ``x`` is x * scale + shift."""
    # One pass over the memory as it lies; var_mean takes thirteen times as long on channels-last tensors.
    each = [torch.batch_norm_update_stats(picture, None, None, 0.0) for picture in x.split(1)]
    mean, variance = (torch.stack(values).unflatten(1, (norm.num_groups, -1)) for values in zip(*each, strict=True))
    group_mean = mean.mean(dim=2, keepdim=True)
    group_variance = (variance + (mean - group_mean).square()).mean(dim=2, keepdim=True)
    scale = norm.weight.view(norm.num_groups, -1) * torch.rsqrt(group_variance + norm.eps)
    shift = norm.bias.view(norm.num_groups, -1) - group_mean * scale
    return scale.flatten(1)[..., None, None], shift.flatten(1)[..., None, None]


_FORMS: dict[type, FastForm] = {ResBlock: FastResBlock, SiLU: lambda _: FastSiLU()}


def fast_full(network: nn.Sequential) -> nn.Sequential:
    """The fast form of a full-size VAE's network, of the same class; weights are copied."""
    fast = copy.copy(network)
    fast._modules = {str(i): layer for i, layer in enumerate(fast_layers(network, _FORMS))}
    return fast
