"""torch's layers, computing the same whatever is done to torch's classes.

Hosts and other extensions replace ``forward`` on ``torch.nn.Conv2d``, ``Linear`` and the norms for every thread while
a job runs: to compute in half precision, to add a LoRA, to wrap borders. Each layer here has a ``forward`` of its own
that calls ``torch.nn.functional`` at once, and is called without hooks. They stay subclasses of torch's layers.

While a checkpoint is loaded they also replace what builds, moves and fills a layer (A1111's
sd_disable_initialization.py), and the names in ``torch.nn`` (Forge's using_forge_operations): here those of torch are
kept, and what kind a layer is must be asked by the classes of this file.
"""

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

CIRCULAR = "circular"
"""The ``padding_mode`` of a convolution whose borders wrap around."""

BORDERS = ("zeros", "reflect", "replicate")
"""The ``padding_mode`` with which a network may have been trained."""


class Module(nn.Module):
    """A module whose call is its ``forward``: no hooks, and nothing of what was put into ``nn.Module.__call__``."""

    to = nn.Module.to
    load_state_dict = nn.Module.load_state_dict
    _load_from_state_dict = nn.Module._load_from_state_dict

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)


class Sequential(Module, nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class Conv2d(Module, nn.Conv2d):
    __init__ = nn.Conv2d.__init__

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:  # where drawing gives nothing and is half of what building a network costs
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer with another weight, such as a part of its own."""
        padding = self.padding
        if self.padding_mode != "zeros" and any(padding):
            rows, columns = padding
            x, padding = functional.pad(x, (columns, columns, rows, rows), mode=self.padding_mode), 0
        return functional.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


class ConvTranspose2d(Module, nn.ConvTranspose2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding)


class Linear(Module, nn.Linear):
    __init__ = nn.Linear.__init__

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class Embedding(Module, nn.Embedding):
    def forward(self, x: Tensor) -> Tensor:
        return functional.embedding(x, self.weight)


class GroupNorm(Module, nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class BatchNorm2d(Module, nn.BatchNorm2d):
    """By the means and variances of the file, never by those of the batch."""

    _load_from_state_dict = nn.BatchNorm2d._load_from_state_dict

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ReLU(Module, nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x)


class SiLU(Module, nn.SiLU):
    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x)


class Upsample(Module, nn.Upsample):
    """Each position becomes a square of 2x2. (B,C,h,w) -> (B,C,2h,2w)"""

    def __init__(self) -> None:
        super().__init__(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class PixelShuffle(Module, nn.PixelShuffle):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(x, self.upscale_factor)


def conv3x3(channels_in: int, channels_out: int, *, stride: int = 1, bias: bool = True) -> Conv2d:
    return Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=bias)


def conv1x1(channels_in: int, channels_out: int, *, bias: bool = True, groups: int = 1) -> Conv2d:
    return Conv2d(channels_in, channels_out, kernel_size=1, bias=bias, groups=groups)


def pad_by(network: nn.Module, padding_mode: str) -> None:
    """Let the convolutions see beyond the borders what ``padding_mode`` says.

    Where a layer pads its input itself (an SD VAE's halving), that stays as it is, as it does in the hosts.
    """
    for module in network.modules():
        if isinstance(module, (Conv2d, ConvTranspose2d)):
            module.padding_mode = padding_mode


def circular(network: nn.Module) -> nn.Module:
    """A copy on the same weights whose convolutions wrap borders around: its pictures can be laid side by side."""
    weights = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    network = copy.deepcopy(network, weights)
    pad_by(network, CIRCULAR)
    return network
