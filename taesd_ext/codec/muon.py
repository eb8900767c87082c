"""Muon: gradient descent whose steps on weight matrices are made orthogonal, so that no direction is left behind.

On the previewers it needs a tenth of AdamW's steps. Source of the method: K. Jordan and others, "Muon: an optimizer
for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Coefficients of the quintic that drives all singular values towards 1 (from the source above).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5

DECAY = 0.1
"""Share of a kernel that is taken away at each step, times the rate: it keeps activations from growing without end."""


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
