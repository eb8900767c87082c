"""Make the heads of a family's official weights: the closed form, then a short training on the same lessons.

The training gains about 2 dB. It is not done for users' own weights, which are calibrated while they wait for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.head_fitting import Crop, HeadFitter, HeadResult
from taesd_ext.commands.descent import Rates, descend
from taesd_ext.models.fast import FastDecoder, FastEncoder
from taesd_ext.models.student import Head

HEAD_LESSONS = 128
HEAD_STEPS = 500
BATCH = 8
RATES = Rates(muon=3e-3, adam=5e-4)


def train_heads(
    codec: Codec, *, lessons: int, steps: int, seed: int, log: Callable[[str], None]
) -> dict[int, HeadResult]:
    """Scale -> head, for the codec's decoder. The decoder teaches in bfloat16: 48 dB, where a head has 35."""
    started = time.process_time()
    encoder = FastEncoder(codec.encoder).to(torch.bfloat16) if codec.has_encoder else None
    fitter = HeadFitter(
        FastDecoder(codec.decoder).to(torch.bfloat16),
        encoder,
        lessons=lessons,
        seed=seed,
        refine=lambda head, crops: refine_head(head, crops, steps, seed),
    )
    with torch.no_grad():
        for _ in fitter.run():
            pass
    for scale, result in fitter.results.items():
        log(
            f"1/{scale}: held back {result.mean:.2f} dB (worst {result.worst:.2f}), {len(result.head.hidden)} hidden "
            f"layers; linear read-out {result.linear[0]:.2f} dB (worst {result.linear[1]:.2f})"
        )
    log(f"{time.process_time() - started:.0f} CPU s")
    return fitter.results


def refine_head(head: Head, crops: list[Crop], steps: int, seed: int) -> None:
    """Train a head further in place, on the positions whose surroundings are known."""
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

    with torch.enable_grad():
        head.requires_grad_(True)
        kernels = [layer.weight for layer in head.hidden]
        descend(head, kernels, loss, len(crops), BATCH, steps, RATES, seed)
        head.requires_grad_(False)
