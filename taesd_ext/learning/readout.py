"""Small previewers from a few pairs of latent and picture: a read-out in closed form, a network trained from there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.noise import seeded
from taesd_ext.errors import TaesdError, log_once, one_line
from taesd_ext.learning.pairs import PIXELS, LatentKind, Pair, learnt_folder
from taesd_ext.learning.ridge import ConvolutionFit
from taesd_ext.models.computing import computing
from taesd_ext.models.layers import Conv2d, PixelShuffle, Sequential
from taesd_ext.models.student import LearntPreviewer, Previewer
from taesd_ext.weights.folders import listing
from taesd_ext.weights.tensor_file import open_tensor_file, write_tensor_file
from taesd_ext.weights.tiny_file import build_frozen

FOLDS = 4
"""A read-out is judged on pairs that it was not solved from, a quarter of them at a time."""

KIND = "learnt previewer"
"""What its files say of themselves."""

_LARGEST = 2**20
"""Bytes of such a file: one of 128 channels has 0.7 MB."""

STEPS, BATCH, CROP = 600, 8, 24

_INNER = (slice(1, -1), slice(1, -1))
"""Positions all of whose neighbours are in the piece."""


@dataclass(frozen=True)
class Learnt:
    """A previewer, and how good it is."""

    network: LearntPreviewer = field(repr=False)
    psnr: float
    """dB, on pairs that it was not made from."""
    pictures: int

    @property
    def is_readout(self) -> bool:
        """Whether it is the closed form, and no trained network."""
        return not isinstance(self.network.network, Previewer)

    @computing()
    def preview(self, latent: Tensor) -> Tensor:
        """(B,C,h,w) latent as the sampler holds it -> (B,3,2h,2w) float32 image in [0,1] on the latent's device."""
        image = self.network(latent.detach().to("cpu", torch.float32)).clamp_(0, 1)
        return image.to(latent.device)


def _readout_layers(channels: int) -> Sequential:
    with torch.device("meta"):  # weights that are drawn at random would move the host's random state
        return Sequential(Conv2d(channels, 3 * PIXELS**2, 3, padding=1), PixelShuffle(PIXELS))


def solve_readout(pairs: Sequence[Pair]) -> LearntPreviewer:
    """The 3x3 read-out that shows these pairs best."""
    values = torch.cat([pair.latent.float()[0].flatten(1) for pair in pairs], dim=1)
    mean, deviation = values.mean(dim=1), values.std(dim=1).clamp_min(1e-3)
    network = LearntPreviewer(mean, deviation, _readout_layers(len(mean)))
    fit, generator = ConvolutionFit(len(mean), 3 * PIXELS**2), seeded(0)
    for pair in pairs:
        wanted = functional.pixel_unshuffle(pair.picture.float(), PIXELS)
        fit.add(network.normal(pair.latent.float()), wanted, generator, within=_INNER)
    network.network[0] = fit.solve()
    return network.requires_grad_(False).eval()


def mean_psnr(preview: Callable[[Tensor], Tensor], pairs: Sequence[Pair]) -> float:
    """dB over the pairs; whatever a preview shows that is no picture counts as wholly wrong."""
    total = 0.0
    for pair in pairs:
        shown = preview(pair.latent.float())
        if shown.shape != pair.picture.shape:
            shown = functional.interpolate(shown, pair.picture.shape[-2:], mode="bilinear")
        total += float(psnr(shown, pair.picture))
    return total / len(pairs)


def learn_readout(pairs: Sequence[Pair], shown: Sequence[Pair] = ()) -> Learnt:
    """The read-out of all pairs, with its quality on ``shown`` (none: all), each by one solved without it.

    A single pair is examined on the part that lies farthest from what is solved: what it says is of pictures like it.
    """
    if len(pairs) == 1:
        found = [mean_psnr(solve_readout([known]), [exam]) for known, exam in _apart(pairs[0])]
        return Learnt(solve_readout(pairs), min(found), 1)
    count, found = min(FOLDS, len(pairs)), []
    for fold in range(count):
        if exam := [pair for pair in pairs[fold::count] if not shown or pair in shown]:
            readout = solve_readout([pair for index, pair in enumerate(pairs) if index % count != fold])
            found += [mean_psnr(readout, [pair]) for pair in exam]
    return Learnt(solve_readout(pairs), sum(found) / len(found), len(pairs))


def _apart(pair: Pair) -> Iterator[tuple[Pair, Pair]]:
    """Two parts of a picture with a gap of a quarter between them, in both roles, one below and one beside the other.
    """
    for axis in (2, 3):
        length = pair.latent.shape[axis]
        side = length * 3 // 8
        first, second = (
            Pair(pair.latent.narrow(axis, start, side), pair.picture.narrow(axis, PIXELS * start, PIXELS * side))
            for start in (0, length - side)
        )
        yield from ((first, second), (second, first))


def train_previewer_on(pairs: Sequence[Pair], steps: int = STEPS) -> Iterator[tuple[Learnt, float] | None]:
    """A small previewer trained on crops, from the read-out on, a step each turn; at last it, and by how many dB it is
    better than the read-out. Judged on every fourth pair, which neither has seen.
    """
    # What trains networks is not loaded with a WebUI: it is needed when one is idle.
    from taesd_ext.learning.descent import Rates, descend
    from taesd_ext.learning.previewers import start_previewer

    exam, taught = pairs[::FOLDS], [pair for index, pair in enumerate(pairs) if index % FOLDS]
    readout = solve_readout(taught)
    side = min(CROP, *(length for pair in taught for length in pair.latent.shape[-2:]))
    latents = torch.cat([piece for pair in taught for piece in _pieces(readout.normal(pair.latent.float()), side)])
    targets = torch.cat([piece for pair in taught for piece in _pieces(pair.picture.float(), PIXELS * side)])
    student = start_previewer(latents, targets, seed=0)

    def loss(batch: Tensor) -> Tensor:
        shown = student(latents[batch].contiguous(memory_format=torch.channels_last))
        return functional.mse_loss(shown, targets[batch])

    for _ in descend(student, loss, len(latents), BATCH, steps, Rates(muon=5e-3, adam=1e-3), seed=0):
        yield None
    network = LearntPreviewer(readout.mean, readout.deviation, student).requires_grad_(False).eval()
    learnt = Learnt(network, mean_psnr(network, exam), len(pairs))
    yield learnt, learnt.psnr - mean_psnr(readout, exam)


def _pieces(whole: Tensor, side: int) -> Iterator[Tensor]:
    """Squares that cover it, those at the far edges overlapping."""
    tops, lefts = ([*range(0, length - side, side), length - side] for length in whole.shape[-2:])
    for top in tops:
        for left in lefts:
            yield whole[..., top : top + side, left : left + side]


def write_learnt(kind: LatentKind, learnt: Learnt, path: Path) -> None:
    notes = {"kind": KIND, "format": kind.name, "channels": f"{kind.channels}", "vae": kind.vae}
    notes |= {"psnr": f"{learnt.psnr:.2f}", "pictures": f"{learnt.pictures}"}
    tensors = {name: value.contiguous() for name, value in learnt.network.state_dict().items()}
    write_tensor_file(path, tensors, notes)


def find_learnt(kind: LatentKind, folders: Iterable[Path] = ()) -> Learnt | None:
    """What was learnt here for these latents, or a file of another user's for them in one of the ``folders``."""
    if kind.file.is_file():
        return _read(kind.file, kind.channels)
    files = (path for folder in folders for path in listing(folder).files.values() if path.suffix == ".safetensors")
    return next((_read(path, kind.channels) for path in files if _kind_of(path).serves(kind)), None)


def _read(path: Path, channels: int) -> Learnt | None:
    try:
        file = open_tensor_file(path)
        state = file.load(list(file.shapes))
        with torch.device("meta"):
            inner = Previewer(channels) if "network.entry.weight" in state else _readout_layers(channels)
            network = LearntPreviewer(torch.zeros(channels), torch.ones(channels), inner)
        return Learnt(build_frozen(network, state), float(file.metadata["psnr"]), int(file.metadata["pictures"]))
    except (TaesdError, KeyError, ValueError, RuntimeError) as error:
        log_once(f"bad previewer {path}", f"Ignoring {path}: {one_line(error)}.")
        return None


def _kind_of(path: Path) -> LatentKind:
    """What a learnt previewer's file serves; nothing where it is none."""
    try:
        notes = open_tensor_file(path).metadata if path.stat().st_size <= _LARGEST else {}
        if notes.get("kind") == KIND:
            return LatentKind(notes["format"], int(notes["channels"]), notes["vae"])
    except (TaesdError, KeyError, ValueError, OSError):
        pass
    return LatentKind("", 0)


def kept_kinds() -> list[LatentKind]:
    """What was learnt in earlier runs."""
    kinds = {path: _kind_of(path) for path in sorted(learnt_folder().glob("*.safetensors"))}
    return [kind for path, kind in kinds.items() if kind.file == path]
