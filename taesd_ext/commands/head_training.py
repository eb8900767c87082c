"""Make the heads of a family's official weights: as users' own are made (codec/heads.py), from more lessons."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.head_fitting import HeadFitter, HeadResult
from taesd_ext.models.fast import FastDecoder, FastEncoder

HEAD_LESSONS = 128
HEAD_STEPS = 500


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
        steps=steps,
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
