"""One training loop for all small networks: seeded, Muon for hidden kernels, AdamW for the rest.

Muon makes the steps on weight matrices orthogonal, so that no direction is left behind: on the previewers it needs a
tenth of AdamW's steps. Source of the method: K. Jordan and others, "Muon: an optimizer for hidden layers in neural
networks", 2024. torch.optim.Muon, of the newest torch only, takes matrices and no convolutions.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from taesd_ext.codec.noise import seeded
from taesd_ext.models.layers import Conv2d, Linear

Network = TypeVar("Network", bound=nn.Module)

Log = Callable[[str], None]
Progress = Callable[[Iterable[Any], int, str], Iterator[Any]]
"""(items, how many, title) -> the items, counted for the person who waits."""

WARM_UP = 50
"""Steps in which the rates rise from zero; afterwards they fall to zero in a straight line."""


# Coefficients of the quintic that drives all singular values towards 1 (from the source above).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5

READOUTS = ("readout", "correction", "linear", "overview.mix")
"""Layers that only read what the hidden ones found."""

DECAY = 0.1
"""Share of a kernel that is taken away at each step, times the rate: it keeps activations from growing without end."""


@dataclass(frozen=True)
class Rates:
    muon: float
    adam: float


def descend(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    lessons: int,
    batch_size: int,
    steps: int,
    rates: Rates,
    seed: int,
    report: Callable[[int], None] = lambda step: None,
    done: int = 0,
) -> Iterator[int]:
    """Train ``network`` in place, a step at each turn of the caller's loop, who may leave it and come back later.

    Gives the number of steps done. What requires no gradient stays as it is; afterwards nothing does. ``loss`` gets a
    batch of indices below ``lessons``; ``report`` is called eight times with the step. ``done`` steps of an earlier run
    are gone through without doing them again.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    hidden = [name for name, weight in weights.items() if weight.ndim == 4 and name.partition(".")[0] not in READOUTS]
    kernels = [weights.pop(name) for name in hidden]
    optimizers = [torch.optim.AdamW(weights.values(), lr=rates.adam)]
    if kernels:
        optimizers.append(Muon(kernels, lr=rates.muon))
    generator = seeded(seed)
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(lessons, generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        if step < done:
            continue
        share = min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
        for optimizer, rate in zip(optimizers, (rates.adam, rates.muon), strict=False):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.zero_grad()
        with torch.enable_grad():
            loss(batch).backward()
        for optimizer in optimizers:
            optimizer.step()
        if (step + 1) % max(1, steps // 8) == 0:
            report(step + 1)
        yield step + 1
    network.requires_grad_(False).eval()


def seeded_network(make: Callable[[], Network], seed: int) -> Network:
    """With the weights that torch would draw, but not from the random state that all threads share.

    Read-outs begin at zero; parts that have their weights already keep them.
    """
    with torch.device("meta"):
        network = make()
    generator = seeded(seed)
    for name, layer in network.named_modules():
        if isinstance(layer, (Conv2d, Linear)) and layer.weight.is_meta:
            layer.to_empty(device="cpu")
            bound = 0.0 if name in READOUTS else layer.weight[0].numel() ** -0.5
            for weights in (layer.weight, layer.bias):
                weights.data.uniform_(-bound, bound, generator=generator)
    return network.to(memory_format=torch.channels_last)


class Muon(torch.optim.Optimizer):
    """For the kernels of hidden convolutions, each taken as a (channels_out, channels_in * taps) matrix."""

    def __init__(self, kernels: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                state = self.state[kernel]
                average = state.setdefault("average", torch.zeros_like(kernel))
                average.lerp_(kernel.grad, 1 - group["momentum"])
                direction = kernel.grad.lerp(average, group["momentum"]).flatten(1)
                shape = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                kernel.mul_(1 - group["lr"] * DECAY)
                kernel.sub_(orthogonal(direction).view_as(kernel), alpha=group["lr"] * shape)


def orthogonal(matrix: Tensor) -> Tensor:
    """(m,n) -> about the nearest matrix whose singular values are 1 (they end between 0.7 and 1.2)."""
    first, third, fifth = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = first * x + (third * gram + fifth * gram @ gram) @ x
    return x.T if tall else x
