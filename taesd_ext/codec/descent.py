"""Gradient descent for the small networks that are shipped: seeded, Muon for hidden kernels, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taesd_ext.codec.muon import Muon

WARM_UP = 50
"""Steps in which the rates rise from zero; afterwards they fall to zero in a straight line."""


@dataclass(frozen=True)
class Rates:
    muon: float
    adam: float


def descend(
    network: nn.Module,
    hidden: list[Tensor],
    loss: Callable[[Tensor], Tensor],
    lessons: int,
    batch_size: int,
    steps: int,
    rates: Rates,
    seed: int,
    report: Callable[[int, float], None] = lambda step, running: None,
) -> Iterator[None]:
    """Train ``network`` in place, a step at each turn of the caller's loop, who may leave it and come back later.

    ``loss`` gets a batch of indices below ``lessons``; ``hidden`` are Muon's kernels. ``report`` is called eight
    times, with the step and the running mean of the loss.
    """
    known = {id(kernel) for kernel in hidden}
    others = [weight for weight in network.parameters() if id(weight) not in known]
    optimizers = [torch.optim.AdamW(others, lr=rates.adam)]
    if hidden:
        optimizers.append(Muon(hidden, lr=rates.muon))
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    running = 0.0
    for step in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(lessons, generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        share = min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
        for optimizer, rate in zip(optimizers, (rates.adam, rates.muon), strict=False):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.zero_grad()
        with torch.enable_grad():
            found = loss(batch)
            found.backward()
        for optimizer in optimizers:
            optimizer.step()
        running = found.item() if step == 0 else 0.99 * running + 0.01 * found.item()
        if (step + 1) % max(1, steps // 8) == 0:
            report(step + 1, running)
        yield
