"""Heads trained further by gradient descent, from the closed form on and on the same lessons: about 2 dB better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taesd_ext.codec.descent import Rates, descend
from taesd_ext.models.student import Head

if TYPE_CHECKING:
    from taesd_ext.codec.head_fitting import Crop

BATCH = 8
RATES = Rates(muon=3e-3, adam=5e-4)


def refine_head(head: Head, crops: list[Crop], steps: int, seed: int) -> Iterator[None]:
    """Train a head in place, a step each turn, on the positions whose surroundings are known.

    On a CPU that computes bfloat16 quickly a step takes 10 to 30 ms; on others it is far too slow for idle moments.
    """
    features = torch.cat([crop.features for crop in crops]).to(torch.bfloat16, memory_format=torch.channels_last)
    targets = torch.cat([crop.target for crop in crops])
    known = torch.zeros(len(crops), 1, *features.shape[-2:])
    for index, crop in enumerate(crops):
        known[index, 0][crop.inner(len(head.hidden) + 1)] = 1

    def loss(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            predicted = head(features[batch])
        error = (predicted.float() - targets[batch]).square() * known[batch]
        return error.sum() / (3 * known[batch].sum())

    head.requires_grad_(True)
    kernels = [layer.weight for layer in head.hidden]
    yield from descend(head, kernels, loss, len(crops), BATCH, steps, RATES, seed)
    head.requires_grad_(False)
