"""Train the embedded previewer of a latent format, with the family's own decoder as the teacher.

What it learns from is synthetic, so that the result can be made again anywhere: see synthetic_pictures.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.learning.descent import Rates, descend
from taesd_ext.learning.lessons import PICTURES, lesson_latents
from taesd_ext.learning.ridge import ConvolutionFit
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.student import Previewer

BATCH = 16
RATES = Rates(muon=1e-2, adam=2e-3)
HELD_BACK = 24
"""Latents kept for measuring, from another seed."""

PAIRS_SHARE = 0.25
"""Of the whole work, roughly: making the pairs."""

READOUTS = ("correction", "linear")
"""The last layers of a previewer and of the small codecs."""

Log = Callable[[str], None]
Network = TypeVar("Network", bound=nn.Module)


def train_previewer(
    codec: Codec, *, steps: int, latents: int, seed: int, log: Log
) -> Generator[float, None, Previewer]:
    """A previewer for the codec's family, which must have both parts. Yields the share that is done.

    On one CPU thread every run gives the same.
    """
    started = time.process_time()
    lessons, targets = yield from teacher_pairs(codec, latents, seed)
    exam, answers = yield from teacher_pairs(codec, HELD_BACK, seed + 1)
    log(f"{len(lessons)} latents to learn from, {time.process_time() - started:.0f} CPU s")
    overview = any(isinstance(layer, nn.GroupNorm) for layer in codec.decoder.modules())
    network = start_previewer(lessons, targets, seed, overview=overview)
    log(f"linear start: held back {mean_psnr(network, exam, answers)}")

    def loss(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(lessons[batch].contiguous(memory_format=torch.channels_last))
        return functional.mse_loss(predicted.float(), targets[batch])

    def report(step: int, running: float) -> None:
        marks = mean_psnr(network, exam, answers)
        seconds = time.process_time() - started
        log(f"step {step}: learning {-10 * math.log10(running):.2f} dB, held back {marks}, {seconds:.0f} CPU s")

    training = descend(network, hidden_kernels(network), loss, len(lessons), BATCH, steps, RATES, seed, report)
    for step, _ in enumerate(training, 1):
        yield PAIRS_SHARE + (1 - PAIRS_SHARE) * step / steps
    return network.requires_grad_(False).eval()


@torch.no_grad()
def teacher_pairs(codec: Codec, count: int, seed: int) -> Generator[float, None, tuple[Tensor, Tensor]]:
    """(N,C,h,w) latents and the (N,3,2h,2w) pictures, area-averaged from clamped full decodes. In bfloat16: 48 dB."""
    decoder, encoder = (_in_bfloat16(FastNetwork(network)) for network in (codec.decoder, codec.encoder))
    lessons, targets = [], []
    channels, factor = codec.latent_channels, codec.spatial_scale_factor
    for latent in lesson_latents(decoder, encoder, channels, factor, count, seed, PICTURES):
        lessons.append(latent)
        targets.append(functional.avg_pool2d(decoder(latent).clamp(0, 1), factor // 2))
        yield PAIRS_SHARE * len(lessons) / count
    return torch.cat(lessons), torch.cat(targets)


def start_previewer(lessons: Tensor, targets: Tensor, seed: int, *, overview: bool = False) -> Previewer:
    """The previewer whose linear part is solved in closed form and whose correction is still zero."""
    network = seeded_network(lambda: Previewer(lessons.shape[1], overview=overview), seed)
    generator = torch.Generator().manual_seed(seed)
    fit = ConvolutionFit(network.latent_channels, 12)
    with computing():
        for latent, target in zip(lessons.split(1), targets.split(1), strict=True):
            fit.add(network.clamp(latent), functional.pixel_unshuffle(target, 2), generator)
        solved = fit.solve()
        network.linear.weight.copy_(solved.weight)
        network.linear.bias.copy_(solved.bias)
        nn.init.zeros_(network.correction.weight)
        nn.init.zeros_(network.correction.bias)
        if network.overview is not None:
            nn.init.zeros_(network.overview.mix.weight)
            nn.init.zeros_(network.overview.mix.bias)
    return network.to(memory_format=torch.channels_last)


def seeded_network(make: Callable[[], Network], seed: int) -> Network:
    """With the weights that torch would draw, but not from the random state that all threads share.

    Parts that have their weights already keep them.
    """
    with torch.device("meta"):
        network = make()
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.is_meta:
            layer.to_empty(device="cpu")
            bound = layer.weight[0].numel() ** -0.5
            for weights in (layer.weight, layer.bias):
                weights.data.uniform_(-bound, bound, generator=generator)
    return network


def hidden_kernels(network: nn.Module) -> list[Tensor]:
    """What Muon trains: every kernel but those of the read-outs."""
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.ndim == 4 and weight.requires_grad and name.partition(".")[0] not in READOUTS
    ]


@computing()
def mean_psnr(network: nn.Module, latents: Tensor, targets: Tensor) -> str:
    """Mean and worst over the pictures, in words."""
    errors = (network(latents).clamp(0, 1) - targets).square().mean(dim=(1, 2, 3))
    psnr = -10 * errors.log10()
    return f"{psnr.mean():.2f} dB (worst {psnr.min():.2f})"


def _in_bfloat16(network: nn.Module) -> Callable[[Tensor], Tensor]:
    network = network.to(torch.bfloat16)
    return lambda x: network(x.to(torch.bfloat16)).float()
