"""Train the embedded previewer of a latent format, with the family's own decoder as the teacher.

What it learns from is synthetic, so that the result can be made again anywhere: see synthetic_pictures.py.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.metrics import in_words, psnr
from taesd_ext.learning.descent import Log, Progress, Rates, descend, seeded_network
from taesd_ext.learning.lessons import PICTURES, lesson_latents
from taesd_ext.learning.ridge import fit_convolution
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.layers import GroupNorm
from taesd_ext.models.student import Previewer

BATCH = 16
RATES = Rates(muon=1e-2, adam=2e-3)
HELD_BACK = 24
"""Latents kept for measuring, from another seed."""


def train_previewer(codec: Codec, *, steps: int, latents: int, seed: int, log: Log, progress: Progress) -> Previewer:
    """A previewer for the codec's family, which must have both parts. On one CPU thread every run gives the same."""
    started = time.process_time()
    lessons, targets = teacher_pairs(codec, latents, seed, progress)
    exam, answers = teacher_pairs(codec, HELD_BACK, seed + 1, progress)
    overview = any(isinstance(layer, GroupNorm) for layer in codec.decoder.modules())
    network = start_previewer(lessons, targets, seed, overview=overview)

    @computing()
    def report(step: int) -> None:
        marks = in_words(psnr(network(exam), answers))
        log(f"step {step}: held back {marks}, {time.process_time() - started:.0f} CPU s")

    def loss(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(lessons[batch].contiguous(memory_format=torch.channels_last))
        return functional.mse_loss(predicted.float(), targets[batch])

    report(0)
    for _ in progress(descend(network, loss, len(lessons), BATCH, steps, RATES, seed, report), steps, "previewer"):
        pass
    return network


@torch.no_grad()
def teacher_pairs(codec: Codec, count: int, seed: int, progress: Progress) -> tuple[Tensor, Tensor]:
    """(N,C,h,w) latents and the (N,3,2h,2w) pictures, area-averaged from clamped full decodes. In bfloat16: 48 dB."""
    decoder, encoder = (_in_bfloat16(FastNetwork(network)) for network in (codec.decoder, codec.encoder))
    lessons, targets = [], []
    channels, factor = codec.latent_channels, codec.spatial_scale_factor
    latents = lesson_latents(decoder, encoder, channels, factor, count, seed, PICTURES)
    for latent in progress(latents, count, "lessons"):
        lessons.append(latent)
        targets.append(functional.avg_pool2d(decoder(latent).clamp(0, 1), factor // 2))
    return torch.cat(lessons), torch.cat(targets)


@computing()
def start_previewer(lessons: Tensor, targets: Tensor, seed: int, *, overview: bool = False) -> Previewer:
    """The previewer whose linear part is solved in closed form and whose correction is still zero."""
    network = seeded_network(lambda: Previewer(lessons.shape[1], overview=overview), seed)
    solved = fit_convolution(network.clamp(lessons), functional.pixel_unshuffle(targets, 2), seed=seed)
    network.linear.load_state_dict(solved.state_dict())
    return network


def _in_bfloat16(network: nn.Module) -> Callable[[Tensor], Tensor]:
    network = network.to(torch.bfloat16)
    return lambda x: network(x.to(torch.bfloat16)).float()
