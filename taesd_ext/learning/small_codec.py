"""Train the small encoder and the small decoder of a latent format, with the family's own networks as the teachers.

Whole pictures, small ones: in a crop of a greater one the teacher would see what its pupil does not. More pictures
help, more steps do not: with 224 pictures the decoder was best after 200 of 800 steps, with 1000 at the last of 1000.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.metrics import in_words, psnr
from taesd_ext.codec.noise import seeded
from taesd_ext.learning.descent import Log, Progress, Rates, descend, seeded_network
from taesd_ext.learning.ridge import fit_convolution
from taesd_ext.learning.synthetic_pictures import picture
from taesd_ext.models.computing import computing
from taesd_ext.models.student import FACTOR, Previewer, SmallDecoder, SmallEncoder

SIDE = 128
"""Of the pictures to learn from."""

BATCH = 8
RATES = Rates(muon=1e-2, adam=2e-3)
HELD_BACK = 16
"""Pictures kept for measuring, from another seed."""

ENCODER_STEPS = 2.5
"""Times the decoder's, which starts from a trained previewer: after 320 steps the encoder still gains 0.4 dB in 40."""

TUNING_STEPS, TUNING_RATES = 0.4, Rates(muon=5e-3, adam=1e-3)
"""Of the encoder's fine-tuning, likewise."""

LATENT_WEIGHT = 0.06
"""Of the latents in fine-tuning, beside their pictures, each over its variance. With 1 photographs lose 0.7 dB."""


@dataclass(frozen=True)
class Lessons:
    """What the teachers made of some pictures."""

    pictures: Tensor
    """(N,3,H,W) in [0,1]"""
    latents: Tensor
    """(N,C,h,w), of these pictures"""
    decoded: Tensor
    """(N,3,H,W) in [0,1], of these latents"""


def train_small_codec(
    codec: Codec, previewer: Previewer, *, steps: int, pictures: int, seed: int, log: Log, progress: Progress
) -> tuple[SmallEncoder, SmallDecoder]:
    """The small networks of the codec's format, which must have both parts.

    ``previewer`` is the format's, and part of the decoder as it is. On one CPU thread every run gives the same.
    """
    started = time.process_time()

    def timed(line: str) -> None:
        log(f"{line}, {time.process_time() - started:.0f} CPU s")

    lessons = teacher_lessons(codec, pictures, seed, progress)
    exam = teacher_lessons(codec, HELD_BACK, seed + 1, progress)
    timed(f"{pictures} pictures of {SIDE} px to learn from")
    decoder = seeded_network(lambda: SmallDecoder(previewer), seed)
    train_decoder(decoder, lessons, exam, steps, seed, timed, progress)
    encoder = seeded_network(lambda: SmallEncoder(codec.latent_channels, overview=previewer.overview is not None), seed)
    train_encoder(encoder, lessons, exam, int(ENCODER_STEPS * steps), seed, timed, progress)
    for network in (encoder, decoder):
        network.half().float()  # as files keep them, so that fine-tuning can start from a file, too
    tune_encoder(encoder, decoder, lessons, exam, int(TUNING_STEPS * steps), seed, timed, progress)
    teachers, own = (
        in_words(psnr(codec.decode(latents), exam.pictures)) for latents in (exam.latents, encoder(exam.pictures))
    )
    timed(f"held back pictures seen through the teacher's decoder: its own latents {teachers}, the encoder's {own}")
    return encoder, decoder


@torch.no_grad()
def teacher_lessons(codec: Codec, count: int, seed: int, progress: Progress) -> Lessons:
    generator = seeded(seed)
    rows: list[tuple[Tensor, ...]] = []
    for _ in progress(range(count), count, "lessons"):
        image = picture(SIDE, generator)[None]
        latent = codec.encode(image)
        rows.append((image, latent, codec.decode(latent)))
    return Lessons(*(torch.cat(column) for column in zip(*rows, strict=True)))


def train_decoder(
    network: SmallDecoder, lessons: Lessons, exam: Lessons, steps: int, seed: int, log: Log, progress: Progress
) -> None:
    """Train all but the previewer, from its picture enlarged on."""
    previewer = network.previewer.requires_grad_(False)
    with computing():
        latents = previewer.clamp(lessons.latents)
        features = torch.cat([previewer.features(part) for part in latents.split(BATCH)])
        small = previewer.picture(latents, features)

    def loss(batch: Tensor) -> Tensor:
        shown = network.enlarge(latents[batch], features[batch], small[batch])
        return functional.mse_loss(shown, lessons.decoded[batch])

    @computing()
    def report(step: int) -> None:
        log(f"decoder, step {step}: held back {in_words(psnr(network(exam.latents), exam.decoded))}")

    report(0)
    for _ in progress(descend(network, loss, len(latents), BATCH, steps, RATES, seed, report), steps, "decoder"):
        pass


def train_encoder(
    network: SmallEncoder, lessons: Lessons, exam: Lessons, steps: int, seed: int, log: Log, progress: Progress
) -> None:
    """Train it from the linear read-out that is solved in closed form on."""
    with computing():
        squares = functional.pixel_unshuffle(lessons.pictures, FACTOR)
        network.linear.load_state_dict(fit_convolution(squares, lessons.latents, kernel=1, seed=seed).state_dict())

    def loss(batch: Tensor) -> Tensor:
        return functional.mse_loss(network(lessons.pictures[batch]), lessons.latents[batch])

    @computing()
    def report(step: int) -> None:
        log(f"encoder, step {step}: held back latents {_likeness(network(exam.pictures), exam.latents)}")

    report(0)
    count = len(lessons.latents)
    for _ in progress(descend(network, loss, count, BATCH, steps, RATES, seed, report), steps, "encoder"):
        pass


def tune_encoder(
    network: SmallEncoder, decoder: SmallDecoder, lessons: Lessons, exam: Lessons, steps: int, seed: int, log: Log,
    progress: Progress,
) -> None:  # fmt: skip
    """Train the encoder further, mostly by the small decoder's pictures: not all that is in a latent shows alike.

    From the start this would not do: where the small decoder sees little, the latents would stay wrong.
    """
    network.requires_grad_(True)
    with computing():
        shown = torch.cat([decoder(part) for part in lessons.latents.split(BATCH)])
        exam_shown = decoder(exam.latents)
        latent_weight = LATENT_WEIGHT * shown.var() / lessons.latents.var()

    def loss(batch: Tensor) -> Tensor:
        latents = network(lessons.pictures[batch])
        unlike = functional.mse_loss(decoder(latents), shown[batch])
        return unlike + latent_weight * functional.mse_loss(latents, lessons.latents[batch])

    @computing()
    def report(step: int) -> None:
        latents = network(exam.pictures)
        words = f"{in_words(psnr(decoder(latents), exam_shown))}, latents {_likeness(latents, exam.latents)}"
        log(f"fine-tuning, step {step}: held back, by the small decoder {words}")

    report(0)
    count = len(lessons.latents)
    for _ in progress(descend(network, loss, count, BATCH, steps, TUNING_RATES, seed, report), steps, "fine-tuning"):
        pass


def _likeness(latents: Tensor, wanted: Tensor) -> str:
    error = (latents - wanted).square().mean(dim=(1, 2, 3))
    return in_words(10 * (wanted.var() / error).log10())
