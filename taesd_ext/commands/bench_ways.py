"""The ways of making one preview frame that ``bench`` compares: from a latent to the encoded bytes of a picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.precision import DtypeChoice
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.codec.tiling import TileChoice
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat, native_format, to_family_latent
from taesd_ext.models import autoencoder_kl
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb
from taesd_ext.preview.frame import preview_image
from taesd_ext.weights.tiny_file import network_of

BASELINE = "as the WebUI does"
"""The built-in TAESD preview of A1111: plain network, autograd on, truncated in numpy, PNG of the full size."""

FULL_VAE = "full SD VAE"
WHOLE, TILES = "whole decode", "exact tiles"
DIFFUSERS = "diffusers AutoencoderTiny"

Frame = Callable[[Tensor], bytes]
"""A latent (1,C,h,w) -> the bytes that go to the page."""


@dataclass(frozen=True)
class Way:
    """A name that a table shows, and how to get ready for it: load, then call as often as wanted."""

    name: str
    dtype: str
    prepare: Callable[[], Frame]
    share: float = 1.0
    """Of the baseline's time, roughly: what the rounds are planned by."""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.dtype}" if self.dtype else self.name


@dataclass(frozen=True)
class Bench:
    """What is measured: a family, and where its weights lie. Small, and can be sent to another process."""

    family: str
    models: tuple[str, ...] = ()

    @property
    def format(self) -> LatentFormat:
        return native_format(self.family)

    def codec(self, dtype: DtypeChoice = None) -> Codec:
        """With the real weights, or with made-up ones, which take as long."""
        try:
            found = load_codec(self.family, models_dir=[Path(path) for path in self.models] or None, dtype=dtype)
            if found.has_decoder:
                return found
        except TaesdError:
            pass
        return Codec(self.family, self.format, decoder=made_up(network_of(self.format, "decoder")), dtype=dtype)

    @property
    def has_weights(self) -> bool:
        return self.codec().source.decoder is not None

    def latent(self, side: int) -> Tensor:
        """Of a square picture with sides of so many pixels, the same each time."""
        positions = -(-side // self.format.spatial_scale_factor)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, self.format.latent_channels, positions, positions, generator=generator)

    def ways(self, *, full_vae: bool = True) -> list[Way]:
        """Every way that can be had here, the baseline first."""
        ways = [Way(BASELINE, "fp32", self._as_the_webui)]
        for dtype in (None, "auto"):
            for detail, share in (("full", 0.7), ("1/2", 0.35), ("1/4", 0.1), ("1/8", 0.03)):
                ways.append(Way(detail, "auto" if dtype else "fp32", self._detail(dtype, detail), share))
        if has_previewer(self.format.name):
            ways.append(Way("embedded previewer", "fp32", self._embedded(None), 0.01))
            ways.append(Way("embedded previewer", "auto", self._embedded("auto"), 0.01))
        if self.format.rgb in LATENT_RGB:
            ways.append(Way("linear RGB", "fp32", self._linear, 0.005))
        if self.format.spatial_scale_factor == 8 and _has_diffusers():
            ways.append(Way(DIFFUSERS, "fp32", self._diffusers))
        if full_vae and self.format.spatial_scale_factor == 8:
            ways.append(Way(FULL_VAE, "fp32", self._full_vae, 14.0))
        return ways

    def tile_ways(self) -> list[Way]:
        """A decode at once and in exact tiles, in each type: the decode alone, since it is what they differ in."""
        return [
            Way(name, "auto" if dtype else "fp32", self._decode(dtype, tile))
            for dtype in (None, "auto")
            for name, tile in ((WHOLE, "off"), (TILES, "auto"))
        ]

    def _decode(self, dtype: DtypeChoice, tile: TileChoice) -> Callable[[], Frame]:
        def prepare() -> Frame:
            codec = self.codec(dtype)

            def frame(latent: Tensor) -> bytes:
                codec.decode(latent, tile=tile)
                return b""

            return frame

        return prepare

    def _as_the_webui(self) -> Frame:
        # Weights that require gradients make torch keep every feature map, as the built-in preview does.
        network = self.codec().decoder.requires_grad_(True)

        def frame(latent: Tensor) -> bytes:
            image = network(latent).detach() * 2 - 1
            return _host_png(image[0] * 0.5 + 0.5)

        return frame

    def _detail(self, dtype: DtypeChoice, detail: str) -> Callable[[], Frame]:
        def prepare() -> Frame:
            codec = self.codec(dtype)
            if detail not in codec.details:
                raise TaesdError(f"{self.family} has no heads for {detail}", "", "`learn` makes them")
            return lambda latent: preview_image(codec.decode(latent, detail=detail)).data

        return prepare

    def _embedded(self, dtype: DtypeChoice) -> Callable[[], Frame]:
        def prepare() -> Frame:
            preview = load_previewer(self.format.name, dtype=dtype)
            return lambda latent: preview_image(preview(to_family_latent(latent, self.format))).data

        return prepare

    def _linear(self) -> Frame:
        return lambda latent: preview_image(latent_to_rgb(latent, self.format.rgb)).data

    def _diffusers(self) -> Frame:
        from diffusers import AutoencoderTiny

        vae = AutoencoderTiny(latent_channels=self.format.latent_channels).eval()

        @torch.no_grad()
        def frame(latent: Tensor) -> bytes:
            return preview_image((vae.decode(latent).sample / 2 + 0.5).clamp(0, 1)).data

        return frame

    def _full_vae(self) -> Frame:
        with torch.device("meta"):
            network = autoencoder_kl.Decoder(self.format.latent_channels)
        network = made_up(network)

        @torch.inference_mode()
        def frame(latent: Tensor) -> bytes:
            return preview_image((network(latent) / 2 + 0.5).clamp_(0, 1)).data

        return frame


def made_up(network: nn.Module) -> nn.Module:
    """A meta-device network with small random weights; time and memory do not depend on them."""
    generator = torch.Generator().manual_seed(0)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.02, generator=generator)
    return network.requires_grad_(False).eval()


def _host_png(image: Tensor) -> bytes:
    pixels = 255.0 * np.moveaxis(image.clamp(0, 1).numpy(), 0, 2)
    picture = Image.fromarray(pixels.astype(np.uint8))
    buffer = io.BytesIO()
    # Above 256 pixels A1111 leaves PNG's options alone; below it asks for the smallest file.
    options = {"optimize": True} if max(picture.size) <= 256 else {"optimize": False, "compress_level": 1}
    picture.save(buffer, format="png", **options)
    return buffer.getvalue()


def _has_diffusers() -> bool:
    try:
        import diffusers  # noqa: F401
    except ImportError:
        return False
    return True
