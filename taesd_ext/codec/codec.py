"""Codec: latents <-> images, the public face of every autoencoder here."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.heads import SCALES, DecoderHeads
from taesd_ext.codec.memory import in_less_memory
from taesd_ext.codec.placement import placed, run
from taesd_ext.codec.precision import DtypeChoice, Overflow, is_finite, or_in_float32, resolve_dtype
from taesd_ext.codec.sizes import check_image, check_latent, cropped, float_dtype, padded_to, scale_of
from taesd_ext.codec.tiling import Output, check_tile
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat, from_family_latent, to_family_latent
from taesd_ext.models.computing import computing
from taesd_ext.models.fast import FastNetwork
from taesd_ext.models.fast_layers import is_trusted
from taesd_ext.models.full_vae import GaussianEncoder, Progress, Tile
from taesd_ext.models.layers import circular

OnTiled = Callable[[int], None]
"""Told the longest side in pixels of the tiles in which a picture was made."""


@dataclass(frozen=True)
class Source:
    """Where a codec's weights came from, for people and for the infotext."""

    encoder: Path | None = None
    decoder: Path | None = None
    embedded: tuple[str, ...] = ()
    """The parts that are no file's, but the embedded codec's."""
    reason: str = ""
    """How the latent format was told, where the file alone does not say it."""


class Codec:
    """An autoencoder that turns images into a diffusion model's latents and back.

    Images are float (B,3,H,W) in [0,1]. Latents are in the diffusion model's own scale (scaled and shifted), as the
    sampler holds them: (B,C,h,w), FLUX.2's also packed (B,4C,h/2,w/2), with frames (B,C,T,h,w). Methods may be
    called from any thread; they keep no autograd graph, never write into their input, and leave the random state alone.
    """

    def __init__(
        self,
        name: str,
        latent_format: LatentFormat,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        device: str | torch.device = "cpu",
        dtype: DtypeChoice = None,
        source: Source | None = None,
    ) -> None:
        self.name = name
        self.format = latent_format
        self.device = torch.device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.source = source or Source()
        self.encoder = encoder
        """As it was loaded, in the layout of the weight files; :meth:`encode` runs its fast form. A full-size VAE in
        float32 is its fast form itself."""
        self.decoder = decoder
        self._encoder = placed(encoder, "encoder", latent_format, self.device, self.dtype)
        self._decoder = placed(decoder, "decoder", latent_format, self.device, self.dtype)
        self.heads: DecoderHeads | None = None
        """Of a tiny decoder whose features they know: one that draws pixels, not squares of them."""
        if isinstance(self._decoder, FastNetwork) and decoder.patch == 1:
            self.heads = DecoderHeads(name, self._decoder, decoder)
        self._float32: Codec | None = None
        self._circular: Codec | None = None
        self._wraps = False
        self.overflowed = False

    @property
    def family(self) -> str:
        """The name under which :func:`taesd_ext.load_codec` knows this codec."""
        return self.name

    @property
    def title(self) -> str:
        """For people: "taesd", "taesd (embedded)", "taesd (embedded encoder)"."""
        parts = self.source.embedded
        word = f"embedded {parts[0]}" if len(parts) == 1 else "embedded"
        return f"{self.name} ({word})" if parts else self.name

    @property
    def latent_channels(self) -> int:
        return self.format.latent_channels

    @property
    def spatial_scale_factor(self) -> int:
        return self.format.spatial_scale_factor

    @property
    def image_scale(self) -> int:
        """Sides of a decoded image over those of the image that was encoded: 2 for a decoder that enlarges."""
        return getattr(self._decoder, "image_scale", 1)

    @property
    def has_encoder(self) -> bool:
        return self._encoder is not None

    @property
    def has_decoder(self) -> bool:
        return self._decoder is not None

    @property
    def can_sample(self) -> bool:
        """Whether :meth:`encode` may draw from a distribution."""
        return isinstance(self._encoder, GaussianEncoder)

    @or_in_float32
    def encode(
        self,
        image: Tensor,
        *,
        sample: int | torch.Generator | None = None,
        tile: Tile = "auto",
        progress: Progress | None = None,
        on_tiled: OnTiled | None = None,
    ) -> Tensor:
        """(B,3,H,W) image in [0,1] -> (B,C,ceil(H/f),ceil(W/f)) latent, in the image's dtype and on its device.

        A size that is not a multiple of the factor f is padded by repeating the right and lower edge, and that is said
        once in the log; give the original size to :meth:`decode` to have it cut back. An SD VAE gives the mean of its
        distribution, or with ``sample`` (a seed for each picture, or a CPU generator) a latent drawn from it.
        ``tile``, ``progress`` and ``on_tiled`` are those of :meth:`decode`.
        """
        encoder = self._need(self._encoder, "encoder")
        check_image(image)
        if sample is not None and not self.can_sample:
            raise TaesdError(f"{self.name} cannot sample", "its encoder gives no distribution", "Leave the seed out")
        output = Output(float_dtype(image), image.device, lambda part: self._checked(part, image), progress)
        options = {} if sample is None else {"sample": sample}

        def work(tile: Tile) -> Tensor:
            padded = padded_to(self.spatial_scale_factor, image.to(self.device, self.dtype))
            raw = run(encoder, padded, 1, tile, output, **options)
            return from_family_latent(raw, self.format)

        return self._computed(work, tile, output, on_tiled)

    @or_in_float32
    def decode(
        self,
        latent: Tensor,
        *,
        size: tuple[int, int] | None = None,
        detail: str = "full",
        tile: Tile = "auto",
        progress: Progress | None = None,
        on_tiled: OnTiled | None = None,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """(B,C,h,w) latent -> (B,3,f*h,f*w) image in [0,1], in the latent's dtype, on ``device`` or the latent's.

        The image's sides are :attr:`image_scale` times as long where the decoder enlarges.
        ``size`` (H, W) is the original image's size, to cut off what :meth:`encode` padded. ``detail`` "1/8", "1/4" or
        "1/2" gives an image that is this fraction of the full size: cheaply where :attr:`details` names it, else by
        averaging the full decode.

        A tiny autoencoder does what would take much memory in exact tiles, which change nothing in the result, a
        full-size VAE in blended ones. ``tile`` "auto" does it where memory asks for it: by the size on a CPU, by what
        is free on a graphics card, and when memory runs out in smaller and smaller tiles; "off" never does it, a
        number is the tiles' side in pixels (exact ones are 184 at least). ``on_tiled`` is told their side once a
        picture was made in tiles, ``progress`` after each tile which part is done, up to 1; what it
        raises stops the decode.
        """
        scale = scale_of(detail)
        decoder = self._need(self._decoder, "decoder")
        check_latent(latent, self.name, self.format)
        output = self._image_output(latent, device, progress)
        head = self.heads.layers(scale) if scale > 1 and self.heads else None
        coarse = {"scale": scale} if scale in getattr(decoder, "coarse_scales", ()) else {}
        factor = self.spatial_scale_factor

        def work(tile: Tile) -> Tensor:
            own = to_family_latent(latent.to(self.device, self.dtype), self.format)
            image = run(decoder, own, factor, tile, output, layers=head, **coarse)
            if scale > 1 and not (head or coarse):
                image = functional.avg_pool2d(image, scale)
            return image if size is None else cropped(image, size, factor, scale, self.image_scale)

        return self._computed(work, tile, output, on_tiled)

    @property
    def draws_films(self) -> bool:
        """Whether its decoder has time layers, which see the frame before."""
        return hasattr(self._decoder, "decode_frames")

    def film_length(self, latents: int) -> int:
        """How many images :meth:`decode_film` makes of so many latents."""
        return self._need(self._decoder, "decoder").film_length(latents)

    @or_in_float32
    def decode_film(self, latents: Tensor, *, detail: str = "full", device: str | torch.device | None = None) -> Tensor:
        """(T,C,h,w) latents of a film, in their order -> (T',3,f*h,f*w) images in [0,1], on ``device`` or the latents'.

        ``detail`` is one of :attr:`details`.
        """
        decoder, scale = self._need(self._decoder, "decoder"), scale_of(detail)
        output = self._image_output(latents, device, None)

        def work(tile: Tile) -> Tensor:
            own = to_family_latent(latents.to(self.device, self.dtype), self.format)
            images = decoder.decode_frames(own.movedim(0, 1)[None], scale)[0].movedim(1, 0)
            return output.whole(images)

        return self._computed(work, "off", output, None)

    def _image_output(self, latent: Tensor, device: str | torch.device | None, progress: Progress | None) -> Output:
        def finish(part: Tensor) -> Tensor:
            part = self._checked(part, latent)
            return part.clamp_(0, 1) if is_trusted(part.device) else part.clamp(0, 1)

        return Output(float_dtype(latent), torch.device(device or latent.device), finish, progress)

    def _computed(
        self, work: Callable[[Tile], Tensor], tile: Tile, output: Output, on_tiled: OnTiled | None
    ) -> Tensor:
        check_tile(tile)
        with computing(self.device):
            result = in_less_memory(work, "off" if self._wraps else tile).contiguous()
        if on_tiled and output.tile_side:
            on_tiled(output.tile_side)
        return result

    @property
    def details(self) -> tuple[str, ...]:
        """Details that :meth:`decode` gives at a part of the full cost, cheapest first, and "full"."""
        cheap = self.heads.scales if self.heads else getattr(self._decoder, "coarse_scales", ())
        return tuple(detail for detail, scale in SCALES.items() if scale in (*cheap, 1))

    def in_float32(self) -> "Codec":
        """The same codec computing in float32: itself, or one that is made on the first call and kept."""
        if self.dtype == torch.float32:
            return self
        if self._float32 is None:
            networks = {"encoder": self.encoder, "decoder": self.decoder}
            self._float32 = Codec(self.name, self.format, device=self.device, source=self.source, **networks)
            if self._wraps:
                self._float32 = self._float32.circular()
        return self._float32

    def circular(self) -> "Codec":
        """The same codec with borders that wrap around, as a host's seamless "Tiling" does it, on the same weights.

        Its pictures are always made at once, and have no cheap details: tiles and heads know other borders.
        """
        if self._wraps:
            return self
        if self._circular is None:
            other = copy.copy(self)
            other._encoder = self._encoder and circular(self._encoder)
            other._decoder = self._decoder and circular(self._decoder)
            other._wraps, other.heads, other._float32 = True, None, None
            self._circular = other
        return self._circular

    def park(self) -> None:
        """Let the weights wait on the CPU, for a device that is short of memory; the next call brings them back."""
        for network in (self._encoder, self._decoder):
            if network is not None:
                network.to("cpu")

    def begin_job(self) -> None:
        """Try the codec's own dtype again. After an overflow everything is computed in float32 until this is called."""
        self.overflowed = False

    def _checked(self, result: Tensor, given: Tensor) -> Tensor:
        """The result, unless a narrow dtype made NaN or infinity of something finite."""
        if self.dtype != torch.float32 and not is_finite(result) and is_finite(given):
            raise Overflow
        return result

    def _need(self, network: nn.Module | None, part: str) -> nn.Module:
        if network is None:
            raise TaesdError(
                f"{self.name} has no {part}",
                f"no {self.name}_{part} file was found",
                "`python -m taesd_ext weights list` says where files are looked for",
            )
        weight = next(network.parameters(), None)
        if weight is not None and weight.device.type != self.device.type:  # it was parked
            network.to(self.device)
        return network
