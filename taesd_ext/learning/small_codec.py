"""Train the small encoder and the small decoder of a latent format, with the family's own networks as the teachers.

Whole pictures, small ones: in a crop of a greater one the teacher would see what its pupil does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.noise import seeded
from taesd_ext.learning.descent import Rates, descend
from taesd_ext.learning.previewers import hidden_kernels, seeded_network
from taesd_ext.learning.synthetic_pictures import picture, soften
from taesd_ext.models.computing import computing
from taesd_ext.models.student import FACTOR, Previewer, SmallDecoder, SmallEncoder

SIDE = 128
"""Of the pictures to learn from."""

BATCH = 8
RATES = Rates(muon=1e-2, adam=2e-3)
HELD_BACK = 16
"""Pictures kept for measuring, from another seed."""

LESSONS_SHARE = 0.4
"""Of the whole work, roughly: asking the teachers."""

PENALTY = 1e-3
"""Of the mean variance of a pixel, in the encoder's linear start."""

Log = Callable[[str], None]
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lessons:
    """What the teachers made of some pictures."""

    pictures: Tensor
    """(N,3,H,W) in [0,1]"""
    latents: Tensor
    """(N,C,h,w), of these pictures"""
    given: Tensor
    """The same, every fourth one softened as early sampling steps show them."""
    decoded: Tensor
    """(N,3,H,W) in [0,1], of those given"""


def train_small_codec(
    codec: Codec, previewer: Previewer, *, steps: int, pictures: int, seed: int, log: Log
) -> Generator[float, None, tuple[SmallEncoder, SmallDecoder]]:
    """The small networks of the codec's format, which must have both parts. Yields the share that is done.

    ``previewer`` is the format's, and part of the decoder as it is. On one CPU thread every run gives the same.
    """
    started = time.process_time()

    def timed(line: str) -> None:
        log(f"{line}, {time.process_time() - started:.0f} CPU s")

    lessons = yield from teacher_lessons(codec, pictures, seed)
    exam = yield from teacher_lessons(codec, HELD_BACK, seed + 1)
    timed(f"{pictures} pictures of {SIDE} px to learn from")
    decoder = seeded_network(lambda: SmallDecoder(previewer), seed)
    for done in train_decoder(decoder, lessons, exam, steps, seed, timed):
        yield LESSONS_SHARE + (1 - LESSONS_SHARE) / 2 * done / steps
    encoder = seeded_network(lambda: SmallEncoder(codec.latent_channels, overview=previewer.overview is not None), seed)
    for done in train_encoder(encoder, lessons, exam, steps, seed, timed):
        yield (1 + LESSONS_SHARE) / 2 + (1 - LESSONS_SHARE) / 2 * done / steps
    teachers, own = (
        mean_and_worst(psnr(codec.decode(latents), exam.pictures))
        for latents in (exam.latents, encode_each(encoder, exam.pictures))
    )
    timed(f"held back pictures seen through the teacher's decoder: its own latents {teachers}, the encoder's {own}")
    return encoder, decoder


@torch.no_grad()
def teacher_lessons(codec: Codec, count: int, seed: int) -> Generator[float, None, Lessons]:
    generator = seeded(seed)
    rows: list[tuple[Tensor, ...]] = []
    for index in range(count):
        image = picture(SIDE, generator)[None]
        latent = codec.encode(image)
        given = soften(latent[0], generator)[None] if index % 4 == 3 else latent
        rows.append((image, latent, given, codec.decode(given)))
        yield LESSONS_SHARE * (index + 1) / count
    return Lessons(*(torch.cat(column) for column in zip(*rows, strict=True)))


def train_decoder(
    network: SmallDecoder, lessons: Lessons, exam: Lessons, steps: int, seed: int, log: Log
) -> Iterator[int]:
    """Train all but the previewer, a step each turn, from its picture enlarged on."""
    previewer = network.previewer.requires_grad_(False)
    with computing():
        nn.init.zeros_(network.correction.weight)
        nn.init.zeros_(network.correction.bias)
        seen = [_seen(previewer, latent) for latent in lessons.given.split(BATCH)]
    latents, features, small = (torch.cat(column) for column in zip(*seen, strict=True))

    def loss(batch: Tensor) -> Tensor:
        shown = network.enlarge(latents[batch], features[batch], small[batch])
        return functional.mse_loss(shown, lessons.decoded[batch])

    @computing()
    def quality() -> str:
        return mean_and_worst(psnr(torch.cat([network(one) for one in exam.given.split(1)]), exam.decoded))

    log(f"decoder: its start held back {quality()}")
    yield from _train(network, loss, lessons, steps, seed, lambda step: log(f"step {step}: held back {quality()}"))


def _seen(previewer: Previewer, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    latent = previewer.clamp(latent)
    features = previewer.features(latent)
    return latent, features, previewer.picture(latent, features)


def train_encoder(
    network: SmallEncoder, lessons: Lessons, exam: Lessons, steps: int, seed: int, log: Log
) -> Iterator[int]:
    """Train it, a step each turn, from the linear read-out that is solved in closed form on."""
    with computing():
        nn.init.zeros_(network.correction.weight)
        nn.init.zeros_(network.correction.bias)
        _solve_linear(network.linear, lessons)

    def loss(batch: Tensor) -> Tensor:
        return functional.mse_loss(network(lessons.pictures[batch]), lessons.latents[batch])

    @computing()
    def quality() -> str:
        error = (encode_each(network, exam.pictures) - exam.latents).square().mean(dim=(1, 2, 3))
        return mean_and_worst(10 * (exam.latents.var() / error).log10())

    log(f"encoder: its linear start held back {quality()} of the latents")
    yield from _train(network, loss, lessons, steps, seed, lambda step: log(f"step {step}: held back {quality()}"))


def _solve_linear(linear: nn.Conv2d, lessons: Lessons) -> None:
    pixels = functional.pixel_unshuffle(lessons.pictures, FACTOR).movedim(1, 0).flatten(1)
    latents = lessons.latents.movedim(1, 0).flatten(1)
    centre, mean = pixels.mean(dim=1, keepdim=True), latents.mean(dim=1, keepdim=True)
    centred = pixels - centre
    gram = (centred @ centred.T).double()
    gram += torch.eye(len(gram)) * gram.diagonal().mean() * PENALTY
    factors = torch.linalg.solve(gram, (centred @ (latents - mean).T).double()).T.float()
    linear.weight.copy_(factors[..., None, None])
    linear.bias.copy_((mean - factors @ centre)[:, 0])


def _train(
    network: nn.Module, loss: Loss, lessons: Lessons, steps: int, seed: int, report: Callable[[int], None]
) -> Iterator[int]:
    network.to(memory_format=torch.channels_last)
    training = descend(
        network, hidden_kernels(network), loss, len(lessons.pictures), BATCH, steps, RATES, seed,
        lambda step, _: report(step),
    )  # fmt: skip
    for step, _ in enumerate(training, 1):
        yield step
    network.requires_grad_(False).eval()


@torch.no_grad()
def encode_each(network: SmallEncoder, pictures: Tensor) -> Tensor:
    return torch.cat([network(one) for one in pictures.split(1)])


def psnr(shown: Tensor, wanted: Tensor) -> Tensor:
    """(N) dB"""
    return -10 * (shown.clamp(0, 1) - wanted).square().mean(dim=(1, 2, 3)).log10()


def mean_and_worst(decibels: Tensor) -> str:
    return f"{decibels.mean():.2f} dB (worst {decibels.min():.2f})"
