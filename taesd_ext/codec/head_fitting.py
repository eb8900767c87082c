"""Fit the heads of a decoder: closed form, then a short training if wished; about a minute of one CPU core.

The decoder teaches its own small student. Each hidden layer of a head is a ridge regression onto what a LATER block of
the same decoder computes before its last ReLU, area-averaged to the head's grid; the read-out is one onto the
area-averaged, clamped full decode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.bank import bank_latent
from taesd_ext.codec.generated import seeded
from taesd_ext.codec.head_refining import refine_head
from taesd_ext.codec.ridge import ConvolutionFit
from taesd_ext.models.fast import FastBlock, FastDecoder
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
HELD_BACK = 12
CROP = 40
"""Features are kept from a square of so many positions of each latent: neighbours say much the same."""

WORSE_BY = 1.0
"""dB that the worst held-back latent may lose where the mean gains."""

WORST_ALLOWED = 18.0
"""dB. A head that shows a held-back latent worse than this is not used at all."""


class Stopped(Exception):
    """The caller's ``should_stop`` said so."""


@dataclass
class HeadResult:
    head: Head
    mean: float
    worst: float
    """PSNR in dB over the held-back latents, against the area-averaged full decode."""
    linear: tuple[float, float]
    """The same two of the plain linear read-out."""


@dataclass
class Crop:
    """A square of one latent's features, and what is to be learnt from them."""

    features: Tensor
    target: Tensor
    teachers: list[Tensor]
    true_edges: tuple[bool, bool, bool, bool]
    """Top, bottom, left, right: whether the square ends where the picture ends."""
    layers: Tensor | None = field(default=None, repr=False)

    def inner(self, margin: int) -> tuple[slice, slice]:
        """The part that saw no cut edge through ``margin`` 3x3 convolutions."""
        top, bottom, left, right = (0 if edge else margin for edge in self.true_edges)
        height, width = self.features.shape[-2:]
        return slice(top, height - bottom), slice(left, width - right)


def head_scales(decoder: FastDecoder) -> list[int]:
    """Scales at which a head can read the decoder, coarse first."""
    return [stage.scale for stage in decoder.stages if stage.scale in HEAD_TEACHERS]


@dataclass
class _Stream:
    """Seeded latents that are made one by one."""

    count: int
    seed: int
    done: int = 0
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = seeded(self.seed)


@dataclass
class _Begun:
    """What is made of a scale already."""

    linear: Head
    students: list[Head]
    """What may take its place: the closed form, and where there is training a copy that is trained."""
    training: Iterator[None]


def latent_channels(decoder: FastDecoder) -> int:
    return next(layer.in_channels for layer in decoder.stages[0] if isinstance(layer, nn.Conv2d))


class HeadFitter:
    """Fits every head of one decoder. :meth:`run` works in slices and leaves the results in ``results``.

    ``encoder``, of the decoder's dtype, may be None: the heads are then some dB worse. Each head is trained for
    ``steps`` steps; the closed form sees the first ``LESSONS`` lessons only, which is all it can use. ``should_stop``
    may be set at any time.
    """

    def __init__(
        self,
        decoder: FastDecoder,
        encoder: nn.Module | None,
        *,
        lessons: int = LESSONS,
        seed: int = 0,
        steps: int = 0,
    ) -> None:
        self.decoder, self.encoder = decoder, encoder
        self._steps, self._seed = steps, seed
        self._begun: dict[int, _Begun] = {}
        self.results: dict[int, HeadResult] = {}
        self.should_stop: Callable[[], bool] = lambda: False
        self._exam = _Stream(HELD_BACK, seed + 1)
        self._lessons = _Stream(lessons, seed)
        self._crops: dict[int, list[Crop]] = {scale: [] for scale in head_scales(decoder)}
        self._answers: dict[int, list[tuple[Tensor, Tensor]]] = {scale: [] for scale in self._crops}
        self._device = next(decoder.parameters()).device
        self._dtype = next(decoder.parameters()).dtype
        self._factor = decoder.stages[0].scale
        self._random = seeded(seed)

    def run(self) -> Iterator[float]:
        """Yields the share that is done. Raises Stopped, at the latest after one network stage, when told to.

        Called again, it goes on where it was stopped.
        """
        scales = head_scales(self.decoder)
        total = self._exam.count + self._lessons.count
        for stream, learn in ((self._exam, self._examine), (self._lessons, self._gather)):
            while stream.done < stream.count:
                state = stream.generator.get_state()
                try:
                    learn(self._next_latent(stream))
                except Stopped:
                    stream.generator.set_state(state)
                    raise
                stream.done += 1
                yield 0.7 * (self._exam.done + self._lessons.done) / total
        for index, scale in enumerate(scales):
            if scale in self._crops:
                self._fit_scale(scale, self._crops[scale], self._answers[scale])
                del self._crops[scale], self._begun[scale]
                yield 0.7 + 0.3 * (index + 1) / len(scales)

    def _next_latent(self, stream: _Stream) -> Tensor:
        encoder = None if self.encoder is None else self._guarded(self.encoder)
        decoder, channels = self._guarded(self._decode), latent_channels(self.decoder)
        return bank_latent(stream.done, decoder, encoder, channels, self._factor, stream.generator)

    def _guarded(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def guarded(x: Tensor) -> Tensor:
            self._check()
            return network(x.to(self._device, self._dtype)).float().cpu()

        return guarded

    def _decode(self, latent: Tensor) -> Tensor:
        x = latent
        for index in range(len(self.decoder.stages)):
            self._check()
            x = self.decoder.run(x, index, index + 1)
        return x

    def _check(self) -> None:
        if self.should_stop():
            raise Stopped

    def _examine(self, latent: Tensor) -> None:
        features, _, image = self._decode_with_taps(latent, ())
        for scale, kept in self._answers.items():
            kept.append((features[scale].half(), functional.avg_pool2d(image, scale)))

    def _gather(self, latent: Tensor) -> None:
        wanted = {tap for scale in self._crops for tap in HEAD_TEACHERS[scale]}
        features, taps, image = self._decode_with_taps(latent, wanted)
        for scale, crops in self._crops.items():
            whole = features[scale]
            height, width = whole.shape[-2:]
            high, wide = min(CROP, height), min(CROP, width)
            top = int(torch.randint(0, height - high + 1, (), generator=self._random))
            left = int(torch.randint(0, width - wide + 1, (), generator=self._random))
            rows, columns = slice(top, top + high), slice(left, left + wide)
            teachers = [
                functional.avg_pool2d(taps[tap], scale // tap[0])[..., rows, columns].half()
                for tap in HEAD_TEACHERS[scale]
            ]
            target = functional.avg_pool2d(image, scale)[..., rows, columns].clone()
            edges = (top == 0, top + high == height, left == 0, left + wide == width)
            crops.append(Crop(whole[..., rows, columns].half(), target, teachers, edges))

    def _decode_with_taps(
        self, latent: Tensor, wanted: tuple[Tap, ...] | set[Tap]
    ) -> tuple[dict[int, Tensor], dict[Tap, Tensor], Tensor]:
        """Features after each stage, the wanted blocks before their last ReLU, and the image in [0,1], on the CPU."""
        features: dict[int, Tensor] = {}
        taps: dict[Tap, Tensor] = {}
        x = latent.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)
        for stage in self.decoder.stages:
            self._check()
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

    def _fit_scale(self, scale: int, crops: list[Crop], exam: list[tuple[Tensor, Tensor]]) -> None:
        if scale not in self._begun:
            linear = self._fit_head(crops[:LESSONS], 0)
            student = self._fit_head(crops[:LESSONS], len(HEAD_TEACHERS[scale]))
            begun = self._begun[scale] = _Begun(linear, [student], iter(()))
            if self._steps:
                begun.students.append(copy.deepcopy(student))
                begun.training = refine_head(begun.students[-1], crops, self._steps, self._seed)
        begun = self._begun[scale]
        for _ in begun.training:
            self._check()
        best = begun.linear
        marks = linear_marks = self._mark(best, exam)
        for candidate in begun.students:
            found = self._mark(candidate, exam)
            if found[0] > marks[0] and found[1] > marks[1] - WORSE_BY:
                best, marks = candidate, found
        if marks[1] >= WORST_ALLOWED:
            self.results[scale] = HeadResult(best, *marks, linear_marks)

    def _fit_head(self, crops: list[Crop], depth: int) -> Head:
        with torch.device("meta"):
            head = Head(depth)
        for crop in crops:
            crop.layers = None
        width = crops[0].features.shape[1]
        for layer in range(depth):
            fit = ConvolutionFit(width, width)
            for crop in crops:
                self._check()
                newest = crop.features if crop.layers is None else crop.layers[:, -width:]
                fit.add(newest, crop.teachers[layer], self._random, within=crop.inner(layer + 1))
            head.hidden[layer] = fit.solve()
            for crop in crops:
                self._check()
                known = crop.features if crop.layers is None else crop.layers
                new = head.hidden[layer](known[:, -width:].float()).relu_().half()
                crop.layers = torch.cat([known, new], dim=1)
        fit = ConvolutionFit(width * (depth + 1), 3)
        for crop in crops:
            self._check()
            layers = crop.features if crop.layers is None else crop.layers
            fit.add(layers, crop.target, self._random, within=crop.inner(depth + 1))
        head.readout = fit.solve()
        for crop in crops:
            crop.layers = None
        return head.requires_grad_(False).eval()

    def _mark(self, head: Head, exam: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """Mean and worst PSNR; a head that computes NaN is the worst of all."""
        marks = []
        for features, target in exam:
            self._check()
            error = (head(features.float()).clamp(0, 1) - target).square().mean().nan_to_num(nan=1.0)
            marks.append(float(-10 * error.clamp_min(1e-12).log10()))
        return sum(marks) / len(marks), min(marks)
