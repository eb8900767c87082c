"""Weights and inputs that any machine draws alike, to compare networks with outputs made elsewhere."""

import math
import zlib

import numpy as np
import torch
from torch import Tensor


def seeded_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers; numpy's RandomState gives the same ones in every version."""
    numbers = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(numbers.astype(np.float32))


def seeded_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random weights under the state's keys, of a size that keeps a network's output near 1."""
    return {
        key: seeded_tensor(key, tuple(value.shape))
        * (0.1 if value.ndim == 1 else 0.8 / math.sqrt(math.prod(value.shape[1:])))
        for key, value in state.items()
    }
