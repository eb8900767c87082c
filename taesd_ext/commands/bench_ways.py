"""The ways of making one preview frame that ``bench`` compares: from a latent to the encoded bytes of a picture."""

import importlib.util
import io
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import SCALES, SHIPPED, load_heads, shipped_heads
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.commands.measuring import PeakMemory
from taesd_ext.errors import TaesdError, log, one_line
from taesd_ext.latent_formats import LatentFormat, native_format, to_family_latent
from taesd_ext.models import autoencoder_kl
from taesd_ext.models.computing import computing
from taesd_ext.models.full_vae import FullDecoder, Tile
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb
from taesd_ext.preview.frame import preview_image
from taesd_ext.weights.tiny_file import network_of

BASELINE = "as the WebUI does"
"""The built-in TAESD preview of A1111: plain network, autograd on, truncated in numpy, PNG of the full size."""

FULL_VAE = "full SD VAE"
TILINGS: dict[str, Tile] = {"whole decode": "off", "exact tiles": "auto"}
DIFFUSERS = "diffusers AutoencoderTiny"
EMBEDDED = "embedded previewer"

DTYPES = {"fp32": None, "auto": "auto"}
"""What a table says -> what a codec is asked for."""

Frame = Callable[[Tensor], bytes]
"""A latent (1,C,h,w) -> the bytes that go to the page."""


@dataclass(frozen=True)
class Way:
    """A name that a table shows, and how to get ready for it: load, then call as often as wanted."""

    name: str
    dtype: str
    prepare: Callable[[], Frame]
    has_memory: bool = True
    """Whether its memory is measured too, which takes seconds."""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.dtype}"


@dataclass(frozen=True)
class Bench:
    """What is measured: a family, and where its weights lie. Small, and can be sent to another process."""

    family: str
    models: tuple[str, ...] = ()

    @property
    def format(self) -> LatentFormat:
        return native_format(self.family)

    def codec(self, dtype: str = "fp32") -> Codec:
        """With the real weights, or with made-up ones, which take as long."""
        folders = [Path(path) for path in self.models] or None
        with suppress(TaesdError):
            found = load_codec(self.family, models_dir=folders, dtype=DTYPES[dtype], embedded=False)
            if found.has_decoder:
                return found
        decoder = made_up(network_of(self.format, "decoder"))
        codec = Codec(self.family, self.format, decoder=decoder, dtype=DTYPES[dtype])
        if codec.heads and (shipped := shipped_heads(self.family)).is_file():
            codec.heads.use(load_heads(shipped)[0], SHIPPED)
        return codec

    def latent(self, side: int) -> Tensor:
        """Of a square picture with sides of so many pixels, the same each time."""
        positions = -(-side // self.format.spatial_scale_factor)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, self.format.latent_channels, positions, positions, generator=generator)

    def ways(self, *, full_vae: bool = True) -> list[Way]:
        """Every way that can be had here, the baseline first."""
        ways = [Way(BASELINE, "fp32", self._as_the_webui)]
        ways += [
            Way(detail, dtype, partial(self._detail, dtype, detail), has_memory=detail != "1/2")
            for dtype in DTYPES
            for detail in reversed(SCALES)
        ]
        if has_previewer(self.format.name):
            ways += [Way(EMBEDDED, dtype, partial(self._embedded, dtype)) for dtype in DTYPES]
        if self.format.rgb in LATENT_RGB:
            ways.append(Way("linear RGB", "fp32", self._linear, has_memory=False))
        if self.format.spatial_scale_factor == 8 and importlib.util.find_spec("diffusers"):
            ways.append(Way(DIFFUSERS, "fp32", self._diffusers))
        if full_vae and self.format.spatial_scale_factor == 8:
            ways.append(Way(FULL_VAE, "fp32", self._full_vae))
        return ways

    def tile_ways(self, dtype: str) -> list[Way]:
        """A decode at once and in exact tiles: the decode alone, since it is what they differ in."""
        return [Way(name, dtype, partial(self._decode, dtype, tile)) for name, tile in TILINGS.items()]

    def _decode(self, dtype: str, tile: Tile) -> Frame:
        codec = self.codec(dtype)

        def frame(latent: Tensor) -> bytes:
            codec.decode(latent, tile=tile)
            return b""

        return frame

    def _as_the_webui(self) -> Frame:
        # Weights that require gradients make torch keep every feature map, as the built-in preview does.
        network = self.codec().decoder.requires_grad_(True)
        return lambda latent: _host_png(network(latent).detach()[0])

    def _detail(self, dtype: str, detail: str) -> Frame:
        codec = self.codec(dtype)
        if detail not in codec.details:
            raise TaesdError(f"{self.family} has no heads for {detail}", "", "`learn` makes them")
        return _frame(lambda latent: codec.decode(latent, detail=detail))

    def _embedded(self, dtype: str) -> Frame:
        preview = load_previewer(self.format.name, dtype=DTYPES[dtype])
        return _frame(lambda latent: preview(to_family_latent(latent, self.format)))

    def _linear(self) -> Frame:
        return _frame(lambda latent: latent_to_rgb(latent, self.format.rgb))

    def _diffusers(self) -> Frame:
        from diffusers import AutoencoderTiny

        vae = AutoencoderTiny(latent_channels=self.format.latent_channels).eval()
        return _frame(lambda latent: (vae.decode(latent).sample / 2 + 0.5).clamp(0, 1))

    def _full_vae(self) -> Frame:
        with torch.device("meta"):
            network = autoencoder_kl.Decoder(self.format.latent_channels)
        codec = Codec("full VAE", self.format, decoder=FullDecoder(made_up(network), self.format))
        return _frame(codec.decode)


def measure_memory(bench: Bench, label: str, side: int) -> int | None:
    """Peak bytes above the weights for a frame of ``side`` pixels, in a process of its own; None if unknown."""
    try:
        # Ctrl-C reaches that process, too: it ends without a traceback.
        quietly = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_DFL)}
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), **quietly) as pool:
            return pool.submit(_peak, bench, label, side, torch.get_num_threads()).result()
    except Exception as error:  # whatever the way raised there, or the system's end of that process
        log.warning("[TAESD] no memory figure for %s: %s", label, one_line(error))
        return None


def _peak(bench: Bench, label: str, side: int, threads: int) -> int | None:
    torch.set_num_threads(threads)
    ways = [*bench.ways(), *(way for dtype in DTYPES for way in bench.tile_ways(dtype))]
    frame = next(way for way in ways if way.label == label).prepare()
    frame(bench.latent(64))
    latent = bench.latent(side)
    with PeakMemory() as memory:
        frame(latent)
    return memory.bytes


def _frame(show: Callable[[Tensor], Tensor]) -> Frame:
    """``show``: latent -> image in [0,1]"""

    @computing()
    def frame(latent: Tensor) -> bytes:
        return preview_image(show(latent)).data

    return frame


def made_up(network: nn.Module) -> nn.Module:
    """A meta-device network with small random weights; time and memory do not depend on them."""
    generator = torch.Generator().manual_seed(0)
    network = network.to_empty(device="cpu").requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(0, 0.02, generator=generator)
    return network.eval()


def _host_png(image: Tensor) -> bytes:
    """As A1111 makes it of a (3,H,W) image, by way of [-1,1]."""
    image = (image * 2 - 1) * 0.5 + 0.5
    pixels = 255.0 * np.moveaxis(image.clamp(0, 1).numpy(), 0, 2)
    picture = Image.fromarray(pixels.astype(np.uint8))
    buffer = io.BytesIO()
    # Above 256 pixels A1111 leaves PNG's options alone; below it asks for the smallest file.
    options = {"optimize": True} if max(picture.size) <= 256 else {"optimize": False, "compress_level": 1}
    picture.save(buffer, format="png", **options)
    return buffer.getvalue()
