"""``learn --vae``: a previewer, or with ``--tiny`` a tiny decoder, for any VAE that can be read here.

A long training saves its state beside its result, and resumes from there when it was interrupted.
"""

import argparse
import io
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.metrics import in_words, psnr
from taesd_ext.codec.noise import seeded
from taesd_ext.commands.outputs import check_outputs, write_atomically
from taesd_ext.commands.progress import progress
from taesd_ext.commands.quality import read_photos
from taesd_ext.errors import TaesdError
from taesd_ext.learning.pairs import SMALLEST, LatentKind, make_pair
from taesd_ext.learning.readout import STEPS, learn_readout, train_previewer_on, write_learnt
from taesd_ext.learning.synthetic_pictures import picture
from taesd_ext.learning.tiny_decoder import (
    HELD_BACK,
    SIDE,
    Autoencoder,
    Lessons,
    all_steps,
    make_lessons,
    start_decoder,
    train_tiny_decoder,
)
from taesd_ext.models.tiny import Decoder
from taesd_ext.weights.tensor_file import open_tensor_file

TINY_STEPS, TINY_PICTURES = 200, 200
PREVIEWER_PICTURES, PREVIEWER_SIDE = 24, 256
KEEP_EVERY = 20
"""Steps after which what was reached is kept."""

_say = partial(print, flush=True)


class Turned:
    """A known autoencoder as an unknown one: its latents are turned by a random matrix."""

    def __init__(self, codec: Codec, seed: int) -> None:
        self.codec = codec
        self.latent_channels, self.spatial_scale_factor = codec.latent_channels, codec.spatial_scale_factor
        noise = torch.randn(self.latent_channels, self.latent_channels, generator=seeded(seed))
        self.turn = torch.linalg.qr(noise).Q

    def encode(self, image: Tensor) -> Tensor:
        return torch.einsum("dc,bchw->bdhw", self.turn, self.codec.encode(image))

    def decode(self, latent: Tensor) -> Tensor:
        return self.codec.decode(torch.einsum("dc,bdhw->bchw", self.turn, latent))


def learn_vae(args: argparse.Namespace) -> None:
    """What the arguments ask for; raises TaesdError."""
    if args.output.suffix not in (".safetensors", *([".pth"] if args.tiny else [])):
        raise TaesdError(f"Cannot write {args.output}", "it is not a .safetensors file", "Give a file with -o")
    check_outputs([args.output], overwrite=args.overwrite)
    codec = load_codec(args.vae, models_dir=args.models, device=args.device, variant=args.variant, embedded=False)
    if not (codec.has_encoder and codec.has_decoder):
        raise TaesdError(f"Nothing can be learnt from {args.vae}", "it needs an encoder and a decoder")
    vae = Turned(codec, args.seed) if args.turned else codec
    (_make_tiny if args.tiny else _make_previewer)(vae, codec, args)
    _say(f"wrote {args.output}, {args.output.stat().st_size:,} bytes")


def _make_previewer(vae: Autoencoder, codec: Codec, args: argparse.Namespace) -> None:
    """The better one of the read-out and the network that is trained from it."""
    count, steps = args.latents or PREVIEWER_PICTURES, STEPS if args.steps is None else args.steps
    images = _images(args.pictures, max(PREVIEWER_SIDE, SMALLEST * vae.spatial_scale_factor), args.seed)
    pairs = []
    for image in progress(islice(images, count), count, "lessons"):
        latent = vae.encode(image)
        pairs.append(make_pair(latent.cpu(), vae.decode(latent).cpu()))
    learnt = learn_readout(pairs)
    if steps:
        *_, (trained, gain) = progress(train_previewer_on(pairs, steps), steps + 1, "previewer")
        learnt = trained if gain > 0 else learnt
    kind = LatentKind(codec.format.name, codec.format.latent_channels)
    _say(f"held back {learnt.psnr:.2f} dB, {'a linear read-out' if learnt.is_readout else 'a small network'}")
    write_learnt(kind, learnt, args.output)


def _make_tiny(vae: Autoencoder, codec: Codec, args: argparse.Namespace) -> None:
    if codec.format.frames:
        why = "the tiny decoders of its kind are made for videos"
        raise TaesdError(f"No tiny decoder is made for {codec.format.title}", why, "Leave --tiny out for a previewer")
    family = load_codec(args.tiny, models_dir=args.models, device=args.device, embedded=False)
    if not (family.has_encoder and family.spatial_scale_factor == codec.spatial_scale_factor):
        raise TaesdError(
            f"{args.tiny} is not a family to start from", "its latents have another size, or it has no encoder here"
        )
    decoder = _tiny(vae, family, args).cpu()
    if args.exam:
        _examine(vae, decoder, args.exam)
    write_atomically(args.output, decoder_file(decoder, codec.format.family, args.output.suffix))
    for kept in _kept(args.output):
        kept.unlink(missing_ok=True)


def _tiny(vae: Autoencoder, family: Codec, args: argparse.Namespace) -> Decoder:
    count, steps = args.latents or TINY_PICTURES, args.steps or TINY_STEPS
    wanted = {name: f"{getattr(args, name)}" for name in ("vae", "tiny", "pictures", "seed", "turned")}
    wanted |= {"count": f"{count}", "steps": f"{steps}"}
    lessons_file, steps_file = _kept(args.output)
    _, found = _read(lessons_file, wanted)
    if found:
        lessons = Lessons(**{name: value.float() for name, value in found.items()})
        _say(f"{count} pictures of an earlier run, {lessons_file.name}")
    else:
        began = time.process_time()
        lessons = make_lessons(vae, family, _images(args.pictures, SIDE, args.seed), count + HELD_BACK, progress)
        halves = {name: value.half() for name, value in vars(lessons).items()}
        write_atomically(lessons_file, safetensors.torch.save(halves, wanted))
        _say(f"{count} pictures of {SIDE} px to learn from, {time.process_time() - began:.0f} CPU s")
    decoder, done = start_decoder(lessons, family), 0
    notes, state = _read(steps_file, wanted)
    if state:
        decoder.load_state_dict(state)
        done = int(notes["done"])
    work = train_tiny_decoder(
        decoder, lessons, family, steps=steps, seed=args.seed, log=_say, device=args.device, done=done
    )
    for step in progress(work, all_steps(steps) - done, args.output.stem, "step"):
        if step % KEEP_EVERY == 0:
            write_atomically(steps_file, safetensors.torch.save(decoder.state_dict(), wanted | {"done": f"{step}"}))
    return decoder


def _kept(output: Path) -> tuple[Path, Path]:
    """Where the lessons lie until the work is done, and what was reached."""
    return output.with_suffix(".lessons.safetensors"), output.with_suffix(".steps.safetensors")


def _read(path: Path, wanted: dict[str, str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What an earlier run has kept, if it was asked for the same."""
    if not path.is_file():
        return {}, {}
    file = open_tensor_file(path)
    if not wanted.items() <= file.metadata.items():
        return {}, {}
    return file.metadata, file.load(list(file.shapes))


def _images(folder: Path | None, side: int, seed: int) -> Iterator[Tensor]:
    """(1,3,side,side) images without end: random parts of a folder's pictures, or synthetic ones."""
    generator = seeded(seed)
    photos = [photo for photo in read_photos(folder) if min(photo.shape[-2:]) >= side] if folder else []
    if folder and not photos:
        raise TaesdError(f"All pictures in {folder} are too small", f"they need {side} pixels a side")
    while True:
        if not photos:
            yield picture(side, generator)[None]
        for photo in photos:
            top, left = (int(torch.randint(edge - side + 1, (), generator=generator)) for edge in photo.shape[-2:])
            yield photo[..., top : top + side, left : left + side]


def _examine(vae: Autoencoder, decoder: Decoder, folder: Path) -> None:
    """Say how near both decoders come to a folder's pictures."""
    marks: dict[str, list[Tensor]] = {}
    for photo in read_photos(folder):
        latent = vae.encode(photo)
        own, tiny = vae.decode(latent).cpu(), decoder(latent.float().cpu())
        for name, pair in (
            ("the VAE's own decode, against the picture", (own, photo)),
            ("the tiny decoder, against the picture", (tiny, photo)),
            ("the tiny decoder, against the VAE's own decode", (tiny, own)),
        ):
            marks.setdefault(name, []).append(psnr(*pair))
    for name, found in marks.items():
        _say(f"{name}: {in_words(torch.cat(found))}, {len(found)} pictures")


def decoder_file(decoder: Decoder, family: str | None, suffix: str) -> bytes:
    """In the original layout; A1111's built-in TAESD takes .pth files only."""
    state = {name: value.contiguous() for name, value in decoder.state_dict().items()}
    if suffix == ".pth":
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()
    return safetensors.torch.save(state, {"family": family} if family else {})
