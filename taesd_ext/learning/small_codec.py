"""Train the small encoder and the small decoder of a latent format, with the family's own networks as the teachers.

Whole pictures, small ones: in a crop of a greater one the teacher would see what its pupil does not. More pictures
help, more steps do not: with 224 pictures the decoder was best after 200 of 800 steps, with 1000 at the last of 2000.
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

ENCODER_STEPS = 1.25
"""Times the decoder's, which starts from a trained previewer: after 320 steps the encoder still gains 0.4 dB in 40."""

TUNING_STEPS, TUNING_BATCH, TUNING_RATES = 0.06, 4, Rates(muon=5e-3, adam=1e-3)
"""Of the encoder's fine-tuning, likewise; one of these steps takes as long as fourteen of the others."""

LATENT_SHARE = 0.3
"""Of a decibel of the latents in fine-tuning, beside one of their pictures."""


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
    encoder.half().float()  # as files keep it, so that fine-tuning can start from a file, too
    tune_encoder(encoder, codec, lessons, exam, int(TUNING_STEPS * steps), seed, timed, progress)
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
    """Train all but the previewer, from its picture enlarged on.

    By decibels, so that each picture counts alike: by the mean square most of it were the few that are hard to tell.
    """
    previewer = network.previewer.requires_grad_(False)
    with computing():
        latents = previewer.clamp(lessons.latents)
        features = torch.cat([previewer.features(part) for part in latents.split(BATCH)])
        small = previewer.picture(latents, features)

    def loss(batch: Tensor) -> Tensor:
        shown = network.enlarge(latents[batch], features[batch], small[batch])
        return -psnr(shown, lessons.decoded[batch]).mean()

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
        log(f"encoder, step {step}: held back latents {in_words(_likeness(network(exam.pictures), exam.latents))}")

    report(0)
    count = len(lessons.latents)
    for _ in progress(descend(network, loss, count, BATCH, steps, RATES, seed, report), steps, "encoder"):
        pass


def tune_encoder(
    network: SmallEncoder, teacher: Codec, lessons: Lessons, exam: Lessons, steps: int, seed: int, log: Log,
    progress: Progress,
) -> None:  # fmt: skip
    """Train the encoder further, by what the teacher's decoder shows of its latents: not all that is in one shows.

    From the start this would not do: a step through that decoder takes too long.
    """
    network.requires_grad_(True)
    decoder = teacher.decoder.requires_grad_(False)

    def loss(batch: Tensor) -> Tensor:
        pictures, latents = lessons.pictures[batch], network(lessons.pictures[batch])
        alike = psnr(decoder(latents), pictures) + LATENT_SHARE * _likeness(latents, lessons.latents[batch])
        return -alike.mean()

    @computing()
    def report(step: int) -> None:
        latents = network(exam.pictures)
        shown = in_words(psnr(teacher.decode(latents), exam.pictures))
        log(f"fine-tuning, step {step}: held back {shown}, latents {in_words(_likeness(latents, exam.latents))}")

    log(f"the teacher's own latents, held back: {in_words(psnr(exam.decoded, exam.pictures))}")
    report(0)
    work = descend(network, loss, len(lessons.latents), TUNING_BATCH, steps, TUNING_RATES, seed, report)
    for _ in progress(work, steps, "fine-tuning"):
        pass


def _likeness(latents: Tensor, wanted: Tensor) -> Tensor:
    """Signal-to-noise ratio of each of (B,C,h,w) in dB -> (B,)"""
    return 10 * (wanted.var() / (latents - wanted).square().mean(dim=(1, 2, 3))).log10()
