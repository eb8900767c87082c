"""Fit the heads of a decoder: in closed form, then by a short training if wished; about a minute of one CPU core.

The decoder teaches its own small student. Each hidden layer of a head is a ridge regression onto what a LATER block of
the same decoder computes before its last ReLU, area-averaged to the head's grid; the read-out is one onto the
area-averaged, clamped full decode.
"""

import copy
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import latent_channels
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.noise import seeded
from taesd_ext.codec.precision import resolve_dtype
from taesd_ext.learning.descent import Rates, descend
from taesd_ext.learning.lessons import lesson_latents
from taesd_ext.learning.ridge import ConvolutionFit
from taesd_ext.models.fast import FastNetwork, fast_form
from taesd_ext.models.fast_layers import FastBlock
from taesd_ext.models.student import Head

Tap = tuple[int, int]
"""A block of the decoder: the scale of its stage, and its number in it, from 0."""

HEAD_TEACHERS: dict[int, tuple[Tap, ...]] = {
    8: ((2, 2), (1, 0)),
    4: ((2, 0), (2, 2), (1, 0)),
    2: ((1, 0),),
}
"""The scale of a head's features -> the blocks that its hidden layers imitate, in order."""

LESSONS = 64
"""Latents to learn from; the closed form cannot use more."""

HELD_BACK = 12

STEPS = 300
"""Of training for each head: 25 CPU seconds in all, where it is done."""

BATCH = 8
RATES = Rates(muon=3e-3, adam=5e-4)

CROP = 40
"""Features are kept from a square of so many positions of each latent: neighbours say much the same."""

WORSE_BY = 1.0
"""dB that the worst held-back latent may lose where the mean gains."""

WORST_ALLOWED = 18.0
"""dB. A head that shows a held-back latent worse than this is not used at all."""


@dataclass
class HeadResult:
    head: Head
    mean: float
    worst: float
    """PSNR in dB over the held-back latents, against the area-averaged full decode."""
    linear: tuple[float, float]
    """The same two of the plain linear read-out."""


@dataclass
class HeadLesson:
    """A square of one latent's features, and what is to be learnt from them."""

    features: Tensor
    target: Tensor
    teachers: list[Tensor]
    true_edges: tuple[bool, bool, bool, bool]
    """Top, bottom, left, right: whether the square ends where the picture ends."""

    def inner(self, margin: int) -> tuple[slice, slice]:
        """The part that saw no cut edge through ``margin`` 3x3 convolutions."""
        top, bottom, left, right = (0 if edge else margin for edge in self.true_edges)
        height, width = self.features.shape[-2:]
        return slice(top, height - bottom), slice(left, width - right)


@torch.inference_mode(False)
@torch.no_grad()
def learn_heads(codec: Codec, *, lessons: int = LESSONS) -> Iterator[float]:
    """Give a codec its reduced details: fit heads, put them to use, keep them in the user's cache.

    Works in slices of some tenths of a second and yields the share that is done: leave it when somebody waits, and go
    on later. Up to 120 MB are held meanwhile. Does nothing where there are heads already, or no tiny decoder; no head
    that fails on held-back latents is used.
    """
    if codec.heads is None or codec.heads.scales:
        return
    # Where a CPU is quick in narrow types, the time that they save is spent on training.
    dtype = resolve_dtype("auto", codec.device) if codec.device.type == "cpu" else torch.float32
    quick = dtype != torch.float32
    decoder = fast_form(codec.decoder).to(codec.device, dtype)
    encoder = None if codec.encoder is None else fast_form(codec.encoder).to(codec.device, dtype)
    results = yield from fit_heads(decoder, encoder, lessons=lessons, steps=STEPS if quick else 0)
    if results:
        codec.heads.keep({scale: result.head for scale, result in results.items()})


@torch.inference_mode(False)
@torch.no_grad()
def fit_heads(
    decoder: FastNetwork, encoder: nn.Module | None, *, lessons: int, steps: int, seed: int = 0
) -> Generator[float, None, dict[int, HeadResult]]:
    """Scale -> the head fitted there, where it passes on held-back latents. Yields the share that is done.

    ``encoder``, of the decoder's dtype, may be None: the heads are then some dB worse. Each head is trained for
    ``steps`` steps; the closed form sees the first ``LESSONS`` lessons only.
    """
    scales = [stage.scale for stage in decoder.stages if stage.scale in HEAD_TEACHERS]
    taps = {tap for scale in scales for tap in HEAD_TEACHERS[scale]}
    exam: dict[int, list[tuple[Tensor, Tensor]]] = {scale: [] for scale in scales}
    taught: dict[int, list[HeadLesson]] = {scale: [] for scale in scales}
    random, total = seeded(seed), HELD_BACK + lessons
    held_back = _latents(decoder, encoder, HELD_BACK, seed + 1)
    for done, latent in enumerate(chain(held_back, _latents(decoder, encoder, lessons, seed))):
        yield 0.7 * done / total
        features, tapped, image = _decode_with_taps(decoder, latent, () if done < HELD_BACK else taps)
        for scale in scales:
            if done < HELD_BACK:
                exam[scale].append((features[scale].half(), functional.avg_pool2d(image, scale)))
            else:
                taught[scale].append(_lesson(scale, features[scale], tapped, image, random))
        yield 0.7 * done / total
    results = {}
    for index, scale in enumerate(scales):
        share = 0.7 + 0.3 * index / len(scales)
        lessons_of_scale = taught.pop(scale)
        candidates = []
        for depth in (0, len(HEAD_TEACHERS[scale])):
            with torch.device("meta"):
                head = Head(depth)
            for _ in fit_head(head, lessons_of_scale[:LESSONS], random):
                yield share
            candidates.append(head)
        if steps:
            candidates.append(copy.deepcopy(candidates[-1]))
            for _ in train_head(candidates[-1], lessons_of_scale, steps, seed):
                yield share
        result = _best(candidates, exam.pop(scale))
        if result.worst >= WORST_ALLOWED:
            results[scale] = result
    yield 1.0
    return results


def _latents(decoder: FastNetwork, encoder: nn.Module | None, count: int, seed: int) -> Iterator[Tensor]:
    like, channels, factor = next(decoder.parameters()), latent_channels(decoder), decoder.stages[0].scale

    def on_cpu(network: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        return network and (lambda x: network(x.to(like.device, like.dtype)).float().cpu())

    return lesson_latents(on_cpu(decoder), on_cpu(encoder), channels, factor, count, seed)


def _decode_with_taps(
    decoder: FastNetwork, latent: Tensor, wanted: Collection[Tap]
) -> tuple[dict[int, Tensor], dict[Tap, Tensor], Tensor]:
    """Features after each stage, the wanted blocks before their last ReLU, and the image in [0,1], on the CPU."""
    features: dict[int, Tensor] = {}
    taps: dict[Tap, Tensor] = {}
    like = next(decoder.parameters())
    x = latent.to(like.device, like.dtype).contiguous(memory_format=torch.channels_last)
    for stage in decoder.stages:
        blocks = 0
        for layer in stage:
            if not isinstance(layer, FastBlock):
                x = layer(x)
                continue
            x = layer.before_relu(x)
            if (stage.scale, blocks) in wanted:
                taps[stage.scale, blocks] = x.to("cpu", torch.float32, copy=True)
            x.relu_()
            blocks += 1
        features[stage.scale] = x.float().cpu()
    return features, taps, features[1].clamp(0, 1)


def _lesson(
    scale: int, features: Tensor, taps: dict[Tap, Tensor], image: Tensor, random: torch.Generator
) -> HeadLesson:
    height, width = features.shape[-2:]
    high, wide = min(CROP, height), min(CROP, width)
    top = int(torch.randint(0, height - high + 1, (), generator=random))
    left = int(torch.randint(0, width - wide + 1, (), generator=random))
    square = (..., slice(top, top + high), slice(left, left + wide))
    teachers = [functional.avg_pool2d(taps[tap], scale // tap[0])[square].half() for tap in HEAD_TEACHERS[scale]]
    target = functional.avg_pool2d(image, scale)[square].clone()
    edges = (top == 0, top + high == height, left == 0, left + wide == width)
    return HeadLesson(features[square].half(), target, teachers, edges)


def fit_head(head: Head, lessons: list[HeadLesson], random: torch.Generator) -> Iterator[None]:
    """Solve a head's layers one after the other, in slices."""
    depth = len(head.hidden)
    known = [lesson.features for lesson in lessons]
    width = known[0].shape[1]
    for layer in range(depth):
        fit = ConvolutionFit(width, width)
        for lesson, features in zip(lessons, known, strict=True):
            fit.add(features[:, -width:], lesson.teachers[layer], random, within=lesson.inner(layer + 1))
            yield
        head.hidden[layer] = fit.solve()
        for index, features in enumerate(known):
            new = head.hidden[layer](features[:, -width:].float()).relu_().half()
            known[index] = torch.cat([features, new], dim=1)
            yield
    fit = ConvolutionFit(width * (depth + 1), 3)
    for lesson, features in zip(lessons, known, strict=True):
        fit.add(features, lesson.target, random, within=lesson.inner(depth + 1))
        yield
    head.readout = fit.solve()
    head.requires_grad_(False).eval()


def train_head(head: Head, lessons: list[HeadLesson], steps: int, seed: int) -> Iterator[int]:
    """Train a head in place, a step each turn, where its surroundings are known: about 2 dB better.

    On a CPU that computes bfloat16 quickly a step takes 10 to 30 ms; on others it is far too slow for idle moments.
    """
    features = torch.cat([lesson.features for lesson in lessons])
    features = features.to(torch.bfloat16, memory_format=torch.channels_last)
    targets = torch.cat([lesson.target for lesson in lessons])
    known = torch.zeros(len(lessons), 1, *features.shape[-2:])
    for index, lesson in enumerate(lessons):
        known[index, 0][lesson.inner(len(head.hidden) + 1)] = 1

    def loss(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            predicted = head(features[batch])
        error = (predicted.float() - targets[batch]).square() * known[batch]
        return error.sum() / (3 * known[batch].sum())

    head.requires_grad_(True)
    yield from descend(head, loss, len(lessons), BATCH, steps, RATES, seed)


def _best(candidates: list[Head], exam: list[tuple[Tensor, Tensor]]) -> HeadResult:
    """The candidate with the best mean, unless its worst picture is much worse; the first one is the linear one."""
    linear, *students = candidates
    linear_psnr = _exam_psnr(linear, exam)
    best = HeadResult(linear, *linear_psnr, linear_psnr)
    for head in students:
        mean, worst = _exam_psnr(head, exam)
        if mean > best.mean and worst > best.worst - WORSE_BY:
            best = HeadResult(head, mean, worst, linear_psnr)
    return best


def _exam_psnr(head: Head, exam: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean and worst in dB."""
    found = [float(psnr(head(features.float()), target)) for features, target in exam]
    return sum(found) / len(found), min(found)
