"""The ways of running a full-size VAE that ``bench --full`` compares: diffusers', the plain network, and ours."""

import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.precision import resolve_dtype
from taesd_ext.commands.bench_ways import DTYPES, Bench, Frame, Way
from taesd_ext.commands.progress import progress
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import native_format
from taesd_ext.models.computing import computing
from taesd_ext.weights.folders import DIFFUSERS_STEM
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.vae_file import find_full_vae

SIDES = (512, 1024)
COMPARED_SIDE = 256
"""Pixels of the pictures whose values are compared."""

_SD: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "scaling_factor": native_format("taesd").scaling_factor, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
_SANA: dict[str, Any] = {
    f"{part}_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3 for part in ("encoder", "decoder")
} | {
    "downsample_block_type": "conv", "upsample_block_type": "interpolate",
    "scaling_factor": native_format("taesana").scaling_factor,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "taesd": ("AutoencoderKL", _SD), "taew2_1": ("AutoencoderKLWan", {}), "taesana": ("AutoencoderDC", _SANA),
}  # fmt: skip
"""The family that has the same latents -> diffusers' class, and its arguments for a published VAE."""


@dataclass(frozen=True)
class FullBench(Bench):
    """One half of a full-size VAE, whose made-up weights lie in a diffusers ``folder``."""

    folder: str = ""
    part: str = "decoder"

    def codec(self, dtype: str = "fp32") -> Codec:
        return load_codec(self.folder, dtype=DTYPES[dtype])

    def latent(self, side: int) -> Tensor:
        """What the half reads for a picture of ``side`` pixels: a latent, or the picture."""
        if self.part == "decoder":
            return super().latent(side)
        return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))

    def ways(self, *, full_vae: bool = False) -> list[Way]:
        """diffusers' first."""
        verb = self.part.removesuffix("r")
        dtypes = [dtype for dtype, choice in DTYPES.items() if choice is None or resolve_dtype(choice) != torch.float32]
        return [
            Way(f"{verb} by diffusers", "fp32", self._diffusers),
            Way(f"{verb}, plain network", "fp32", self._plain),
            *(Way(verb, dtype, partial(self._ours, dtype)) for dtype in dtypes),
        ]

    def _ours(self, dtype: str) -> Frame:
        return _values(getattr(self.codec(dtype), self.part.removesuffix("r")))

    def _plain(self) -> Frame:
        vae = find_full_vae(open_tensor_file(Path(self.folder) / f"{DIFFUSERS_STEM}.safetensors"))
        network = vae.parts[self.part].build()
        return _values(lambda x: network(x).clamp(0, 1) if self.part == "decoder" else network(x))

    def _diffusers(self) -> Frame:
        vae = _diffusers_class(self.family).from_pretrained(self.folder).eval()
        frames = self.family == "taew2_1"  # it takes films

        def decode(latent: Tensor) -> Tensor:
            own = self.format.to_vae(latent)
            pixels = vae.decode(own[:, :, None]).sample[:, :, 0] if frames else vae.decode(own).sample
            return (pixels / 2 + 0.5).clamp(0, 1)

        def encode(image: Tensor) -> Tensor:
            pixels = image * 2 - 1
            found = vae.encode(pixels[:, :, None] if frames else pixels)
            own = found.latent if hasattr(found, "latent") else found.latent_dist.mode()
            return self.format.from_vae(own[:, :, 0] if frames else own)

        return _values(decode if self.part == "decoder" else encode)


@contextmanager
def full_benches(family: str) -> Iterator[list[FullBench]]:
    """Both halves of a VAE with made-up weights. Raises TaesdError where it cannot be made."""
    network_class = _diffusers_class(family)
    with tempfile.TemporaryDirectory(prefix="taesd-bench-") as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        network_class(**KINDS[family][1]).save_pretrained(folder)
        yield [FullBench(family, (), folder, part) for part in ("encoder", "decoder")]


def differences(bench: FullBench) -> dict[str, float]:
    """The largest difference from diffusers' result over its largest value, by way."""
    given = bench.latent(COMPARED_SIDE)
    ways = bench.ways()
    ways = progress(ways, len(ways), "comparing", "way")
    (_, wanted), *others = ((way.label, np.frombuffer(way.prepare()(given), np.float32)) for way in ways)
    return {label: float(np.abs(result - wanted).max() / np.abs(wanted).max()) for label, result in others}


def _diffusers_class(family: str) -> type[nn.Module]:
    if family not in KINDS:
        raise TaesdError(f"--full does not know the VAE of {family}", f"it knows those of {', '.join(KINDS)}")
    try:
        return getattr(importlib.import_module("diffusers"), KINDS[family][0])
    except ImportError as error:
        raise TaesdError("--full compares with diffusers", "it is not installed", "pip install diffusers") from error


def _values(run: Callable[[Tensor], Tensor]) -> Frame:
    @computing()
    def frame(given: Tensor) -> bytes:
        return run(given).float().numpy().tobytes()

    return frame
