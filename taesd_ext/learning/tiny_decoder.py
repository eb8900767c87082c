"""A tiny decoder for a VAE that has none: a known family's is led to the VAE's latents, then trained as a whole.

Both latents of the same pictures are known. The first layer is solved in closed form, so that from the VAE's latents
it makes what the family's own makes of its latents. The layers at the latent's size, a fiftieth of the work, then
learn to make the same features, and last all layers learn the VAE's pictures: L1, and those features still, as
Turbo-VAED does (arXiv 2508.09136). No adversary: a preview needs none.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.metrics import in_words, psnr
from taesd_ext.errors import TaesdError
from taesd_ext.learning.descent import Log, Progress, Rates, descend
from taesd_ext.learning.ridge import fit_convolution
from taesd_ext.models.computing import computing
from taesd_ext.models.layers import Sequential, Upsample
from taesd_ext.models.tiny import Decoder
from taesd_ext.weights.tiny_file import build_frozen

SIDE = 128
"""Of the pictures to learn from."""

BATCH, ENTRY_BATCH = 4, 16
RATES, ENTRY_RATES = Rates(muon=1e-3, adam=2e-4), Rates(muon=1e-2, adam=2e-3)

ENTRY_STEPS = 2
"""Times the steps of the whole decoder."""

FEATURES = 0.02
"""Weight of the features, which are about 1, beside the pictures."""

HELD_BACK = 16
"""Of the pictures, the last ones."""


class Autoencoder(Protocol):
    """What is asked of the VAE: latents in the diffusion model's scale, images in [0,1]."""

    latent_channels: int
    spatial_scale_factor: int

    def encode(self, image: Tensor) -> Tensor: ...

    def decode(self, latent: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Lessons:
    """What is known of some pictures."""

    latents: Tensor
    """(N,C,h,w), the VAE's"""
    known: Tensor
    """(N,C',h,w), the family's"""
    pictures: Tensor
    """(N,3,H,W) in [0,1], as the VAE decodes them"""

    def __getitem__(self, part: slice) -> "Lessons":
        return Lessons(self.latents[part], self.known[part], self.pictures[part])


def make_lessons(
    vae: Autoencoder, family: Codec, images: Iterable[Tensor], count: int, progress: Progress
) -> Lessons:
    """Of ``count`` images, (1,3,H,W) in [0,1] and all of one size."""
    rows = []
    for image in progress(islice(images, count), count, "lessons"):
        latent = vae.encode(image)
        rows.append((latent, family.encode(image), vae.decode(latent)))
    return Lessons(*(torch.cat(column) for column in zip(*rows, strict=True)))


def start_decoder(lessons: Lessons, family: Codec) -> Decoder:
    """The family's decoder behind a first layer for the VAE's latents that is solved in closed form."""
    own = family.decoder
    if type(own) is not Decoder or own.patch > 1 or own[3].pool is not None:
        raise TaesdError(f"{family.name} is not a family to start from", "it is not of TAESD's own kind", "Try taesd")
    with computing():
        clamp, first = own[0], own[1]
        solved = fit_convolution(clamp(lessons.latents), first(clamp(lessons.known)))
    with torch.device("meta"):
        decoder = Decoder(lessons.latents.shape[1])
    weights = {name: weight.clone() for name, weight in own.state_dict().items()}
    return build_frozen(decoder, weights | {"1.weight": solved.weight.data, "1.bias": solved.bias.data})


def train_tiny_decoder(
    decoder: Decoder, lessons: Lessons, family: Codec, *, steps: int, seed: int, log: Log,
    device: torch.device | str = "cpu", done: int = 0,
) -> Iterator[int]:  # fmt: skip
    """Train it in place, a step of all :func:`all_steps` each turn, which is yielded; ``done`` of them were before."""
    started = time.process_time()
    exam, taught = lessons[-HELD_BACK:], lessons[:-HELD_BACK]
    entry, rest = _parts(decoder)
    own_entry, _ = _parts(family.decoder.to(device))
    decoder.to(device)
    with computing():
        wanted = torch.cat([own_entry(part.to(device)) for part in taught.known.split(ENTRY_BATCH)])
    latents, pictures = taught.latents.to(device), taught.pictures.to(device)

    @computing()
    def report(step: int) -> None:
        shown = torch.cat([decoder(part.to(device)).cpu() for part in exam.latents.split(BATCH)])
        log(f"step {step}: held back {in_words(psnr(shown, exam.pictures))}, {time.process_time() - started:.0f} CPU s")

    def entry_loss(batch: Tensor) -> Tensor:
        return functional.mse_loss(entry(latents[batch]), wanted[batch])

    def loss(batch: Tensor) -> Tensor:
        features = entry(latents[batch])
        unlike = functional.l1_loss(features, wanted[batch])
        return functional.l1_loss(rest(features), pictures[batch]) + FEATURES * unlike

    entry_steps = ENTRY_STEPS * steps
    report(done)
    entry.requires_grad_(True)
    yield from descend(entry, entry_loss, len(latents), ENTRY_BATCH, entry_steps, ENTRY_RATES, seed, done=done)
    report(max(done, entry_steps))
    decoder.requires_grad_(True)
    for step in descend(
        decoder, loss, len(latents), BATCH, steps, RATES, seed,
        lambda step: report(entry_steps + step), done=max(0, done - entry_steps),
    ):  # fmt: skip
        yield entry_steps + step


def all_steps(steps: int) -> int:
    """Of the first layers and then of all."""
    return (ENTRY_STEPS + 1) * steps


def _parts(decoder: Decoder) -> tuple[Sequential, Sequential]:
    """The layers that work at the latent's size, and the others."""
    layers = list(decoder)
    first = next(place for place, layer in enumerate(layers) if isinstance(layer, Upsample))
    return Sequential(*layers[:first]), Sequential(*layers[first:])
