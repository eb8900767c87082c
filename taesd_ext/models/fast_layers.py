"""Layers that compute what the plain ones do, quicker and in less memory, and never write into the caller's tensor.

On a CPU in float32 the residual blocks of full-size VAEs go over the picture in strips of rows. A norm and an
activation are then applied to a strip that stays in the processor's cache, and no normalised copy of the whole picture
is ever made. GroupNorm's statistics are taken over the whole picture first, so strips change nothing. Convolutions of
many channels take a quarter of the multiplications (models/winograd.py).
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.models import winograd
from taesd_ext.models.autoencoder_kl import ResBlock
from taesd_ext.models.layers import CIRCULAR, Conv2d, ConvTranspose2d, GroupNorm, Module, ReLU, Sequential, SiLU
from taesd_ext.models.tiny import CLAMP_MAGNITUDE, Block, Clamp, FoldPatches, UnfoldPatches

STRIP_BYTES = 2 << 20
"""Of a convolution's input in a strip. Four times as much is no quicker, and the C library keeps more of it."""
DOUBLING_STRIP_BYTES = 16 << 20
"""Of a doubling's input in a strip: each strip reads all weights anew, so larger ones are quicker."""

# Row: position in the 4-tap kernel of the transposed convolution; column: tap of the 3-tap kernel that it sums.
# Pixel 2i of the doubled signal u has u[2i-1] = x[i-1] and u[2i] = u[2i+1] = x[i], hence w0 x[i-1] + (w1+w2) x[i];
# pixel 2i+1 likewise (w0+w1) x[i] + w2 x[i+1]. A transposed convolution (stride 2, padding 1) adds x[i] k[o+1-2i] to o.
_TAPS = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))

_TRUSTED = ("cpu", "cuda")


def layout_on(device: torch.device) -> torch.memory_format:
    """The memory layout that convolutions of CPUs and NVIDIA's and AMD's cards like best."""
    return torch.channels_last if is_trusted(device) else torch.contiguous_format


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


class FastSiLU(SiLU):
    """Writes into its input, the newest tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x, inplace=is_trusted(x.device))


class FastClamp(Module):
    """Soft clamp to (-3, 3) with one temporary."""

    def forward(self, latent: Tensor) -> Tensor:
        x = latent / CLAMP_MAGNITUDE
        return x.tanh_().mul_(CLAMP_MAGNITUDE) if is_trusted(x.device) else x.tanh() * CLAMP_MAGNITUDE


class Doubling(ConvTranspose2d):
    """Nearest x2 upsampling and a 3x3 convolution in one. (B,C,h,w) -> (B,C',2h,2w).

    In float32 on a CPU the border of zeros is written out instead of implied: the library adds up in another order
    where it implies one, depending on the picture's size, and a tile would differ in the last bit from the whole.
    Large pictures go in strips of rows there, since the border and the library's own layout each copy the input.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool) -> None:
        super().__init__(channels_in, channels_out, kernel_size=4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode != "zeros":
            # Beyond a doubled border lies the border's own position, reflected or repeated.
            mode = CIRCULAR if self.padding_mode == CIRCULAR else "replicate"
            return self._doubled(functional.pad(x, (1, 1, 1, 1), mode=mode))
        if x.device.type == "cpu" and x.dtype == torch.float32:
            return self._in_strips(x)
        return super().forward(x)

    def _in_strips(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows = max(1, DOUBLING_STRIP_BYTES // x[:, :, :1].nbytes)
        if rows >= height:
            return self._doubled(_bordered(x, 0, height))
        doubled = torch.empty(
            (batch, self.out_channels, 2 * height, 2 * width), dtype=x.dtype, memory_format=torch.channels_last
        )
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            doubled[:, :, 2 * start : 2 * stop] = self._doubled(_bordered(x, start, stop))
        return doubled

    def _doubled(self, bordered: Tensor) -> Tensor:
        return functional.conv_transpose2d(bordered, self.weight, self.bias, stride=2, padding=3)


def _bordered(x: Tensor, start: int, stop: int) -> Tensor:
    """These rows with one position of what lies beyond on each side, zeros outside the picture. Channels-last."""
    batch, channels, height, width = x.shape
    wide = torch.empty(
        (batch, channels, stop - start + 2, width + 2), dtype=x.dtype, memory_format=torch.channels_last
    )
    for side in (wide[:, :, 0], wide[:, :, -1], wide[:, :, :, 0], wide[:, :, :, -1]):
        side.zero_()
    first, last = max(0, start - 1), min(stop + 1, height)
    wide[:, :, first - start + 1 : last - start + 1, 1:-1] = x[:, :, first:last]
    return wide


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


class FastBlock(Module):
    """:class:`tiny.Block` with every sum and activation in place of the newest tensor. (B,C,h,w) -> (B,C,h,w)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = Sequential(*map(fast_layer, block.conv))
        self.pool = None if block.pool is None else Sequential(*map(fast_layer, block.pool))
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


class FastResBlock(Module):
    """:class:`autoencoder_kl.ResBlock` in strips, or with activations and sums in place. (B,C,h,w) -> (B,C',h,w)"""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.norm1, self.conv1 = copy.deepcopy(block.norm1), copy.deepcopy(block.conv1)
        self.norm2, self.conv2 = copy.deepcopy(block.norm2), copy.deepcopy(block.conv2)
        self.shortcut = copy.deepcopy(block.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = convolve_activated(x, self.norm1, self.conv1)
        if not _goes_in_strips(x, self.conv2):
            return added(convolve_activated(y, self.norm2, self.conv2), self._carried(x))

        def store_sum(rows: slice, convolved: Tensor) -> None:
            y[:, :, rows] = convolved.add_(self._carried(x[:, :, rows]))

        _convolve_strips(y, _norm_and_silu(self.norm2, y), self.conv2, store_sum)
        return y

    def _carried(self, x: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(x)


def convolve_activated(x: Tensor, norm: nn.Module, conv: Conv2d) -> Tensor:
    """``conv(silu(norm(x)))`` for a 3x3 convolution, in strips where that is quick. (B,C,h,w) -> (B,C',h,w)"""
    if not _goes_in_strips(x, conv):
        return conv(functional.silu(norm(x), inplace=is_trusted(x.device)))
    return _convolved(x, _norm_and_silu(norm, x), conv)


def convolve(x: Tensor, conv: Conv2d) -> Tensor:
    """A 3x3 convolution alone, whatever else the layer does; in strips where that is quick. (B,C,h,w) -> (B,C',h,w)"""
    if not _goes_in_strips(x, conv) or not winograd.pays(conv.weight, *x.shape[2:]):
        return conv.convolve(x, conv.weight)
    return _convolved(x, lambda rows, out: out.copy_(rows), conv)


def _convolved(x: Tensor, activate: Callable[[Tensor, Tensor], object], conv: Conv2d) -> Tensor:
    y = torch.empty((len(x), conv.out_channels, *x.shape[2:]), dtype=x.dtype, memory_format=torch.channels_last)

    def store(rows: slice, convolved: Tensor) -> None:
        y[:, :, rows] = convolved

    _convolve_strips(x, activate, conv, store)
    return y


def _goes_in_strips(x: Tensor, conv: Conv2d) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and conv.padding_mode == "zeros"


def _convolve_strips(
    x: Tensor, activate: Callable[[Tensor, Tensor], object], conv: Conv2d, store: Callable[[slice, Tensor], None]
) -> None:
    """The convolution of what ``activate`` makes of rows of ``x``, told to ``store`` strip by strip.

    ``store`` may overwrite these rows of ``x``.
    """
    batch, channels, height, width = x.shape
    convolve, multiple = _convolution(conv, height, width)
    rows = STRIP_BYTES // (batch * channels * width * x.element_size())
    rows = _rounded_up(min(height, max(1, rows)), multiple)
    strip = torch.empty(
        (batch, channels, rows + 2, _rounded_up(width, multiple) + 2), dtype=x.dtype, memory_format=torch.channels_last
    ).zero_()  # a border of zeros is left around what is written into it
    inner = strip[..., 1 : width + 1]
    activate(x[:, :, :1], inner[:, :, 1:2])
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        # Row 0 of the strip is the one above it, row 1 its own first, made with the strip before: x may have changed.
        below = min(stop + 1, height)
        activate(x[:, :, start + 1 : below], inner[:, :, 2 : below - start + 1])
        inner[:, :, below - start + 1 :].zero_()
        convolved = convolve(strip[:, :, : _rounded_up(stop - start, multiple) + 2])
        inner[:, :, :2] = inner[:, :, rows : rows + 2].clone()
        store(slice(start, stop), convolved[:, :, : stop - start, :width])


def _convolution(conv: Conv2d, height: int, width: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """The quickest way of a 3x3 convolution of what has borders already, and of what its sides must be multiples."""
    if winograd.pays(conv.weight, height, width):
        return partial(winograd.convolve, kernels=winograd.transformed(conv.weight), bias=conv.bias), winograd.TILE
    return partial(functional.conv2d, weight=conv.weight, bias=conv.bias), 1


def _rounded_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


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


def zoom_of(layer: nn.Module) -> float:
    """Positions that a fast layer makes of each that it reads, along a side."""
    if isinstance(layer, (Doubling, UnfoldPatches)):
        return 2
    if isinstance(layer, FoldPatches) or getattr(layer, "stride", None) == (2, 2):
        return 0.5
    return getattr(layer, "zoom", 1)


def fast_layer(layer: nn.Module) -> nn.Module:
    """The layer in its fast form, or a copy where it has none. Weights are copied.

    A form may overwrite its input where that always is the newest tensor, one that a layer before it has made.
    """
    return _FORMS.get(type(layer), copy.deepcopy)(layer)


_FORMS: dict[type, Callable[[nn.Module], nn.Module]] = {
    Block: FastBlock,
    ResBlock: FastResBlock,
    Clamp: lambda _: FastClamp(),
    ReLU: lambda _: FastReLU(),
    SiLU: lambda _: FastSiLU(),
}
