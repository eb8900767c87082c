"""One row per latent format: what a diffusion model's latent looks like and which tiny autoencoder reads it.

A *latent format* is a convention of numbers (channels, stride, scale); a *family* is a tiny autoencoder trained for
it, named as its weight files are ("taesd", "taesdxl", ...). Adding a model is adding a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentFormat:
    """How one kind of diffusion model writes its latents.

    ``latent_channels`` and ``spatial_scale_factor`` describe the latent that the tiny autoencoder reads. The sampler
    may hold it ``packed``: FLUX.2 folds each 2x2 square of positions into the channels, so that a sampler's latent
    has ``latent_channels * packed**2`` channels at ``1 / packed`` of the sides.
    """

    name: str
    title: str
    family: str | None
    latent_channels: int
    spatial_scale_factor: int
    rgb: str
    """Row of models/latent_rgb.py: the linear preview of this format."""
    host_names: tuple[str, ...] = ()
    """Class names of this format in the hosts (Forge, reForge, Neo, ComfyUI)."""
    flags: tuple[str, ...] = ()
    """Attributes of the host's model that are true for this format, strongest first."""
    packed: int = 1
    frames: bool = False
    """Latents have a time axis, (B,C,T,h,w): video models, of which the first frame is shown."""
    to_family: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    """Brings a sampler's latent to the family's scale, where the two differ."""
    from_family: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)

    def accepts(self, channels: int, stride: int | None = None) -> bool:
        """Whether a sampler's latent with so many channels, at this stride to the image, can be of this format."""
        for fold in {1, self.packed}:
            if channels == self.latent_channels * fold**2:
                return stride is None or stride == self.spatial_scale_factor * fold
        return False


# Playground v2.5 normalises SDXL's latents by a mean and a deviation per channel. Source: the model card's
# vae/config.json of playgroundai/playground-v2.5-1024px-aesthetic; SDXL's own scaling_factor is 0.13025.
_PLAYGROUND_MEAN = (-1.6574, 1.886, -1.383, 2.5155)
_PLAYGROUND_STD = (8.4927, 5.9022, 6.5498, 5.2299)
_PLAYGROUND_SCALE = 0.5
_SDXL_SCALE = 0.13025


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def _playground_to_sdxl(latent: Tensor) -> Tensor:
    mean, std = _per_channel(_PLAYGROUND_MEAN, latent), _per_channel(_PLAYGROUND_STD, latent)
    return (latent * std / _PLAYGROUND_SCALE + mean) * _SDXL_SCALE


def _sdxl_to_playground(latent: Tensor) -> Tensor:
    mean, std = _per_channel(_PLAYGROUND_MEAN, latent), _per_channel(_PLAYGROUND_STD, latent)
    return (latent / _SDXL_SCALE - mean) * _PLAYGROUND_SCALE / std


LATENT_FORMATS: tuple[LatentFormat, ...] = (
    LatentFormat(
        "sd1", "Stable Diffusion 1 and 2", "taesd", 4, 8, rgb="sd1",
        host_names=("SD15", "SD20"), flags=("is_sd1", "is_sd2"),
    ),
    LatentFormat(
        "playground25", "Playground 2.5", "taesdxl", 4, 8, rgb="sdxl",
        host_names=("SDXL_Playground_2_5",), to_family=_playground_to_sdxl, from_family=_sdxl_to_playground,
    ),
    LatentFormat(
        "sdxl", "SDXL, SSD-1B, SDXL refiner", "taesdxl", 4, 8, rgb="sdxl",
        host_names=("SDXL",), flags=("is_sdxl", "is_ssd"),
    ),
    LatentFormat(
        "sd3", "Stable Diffusion 3 and 3.5", "taesd3", 16, 8, rgb="sd3",
        host_names=("SD3",), flags=("is_sd3",),
    ),
    LatentFormat(
        "flux1", "FLUX.1, Chroma, Z-Image, HiDream, Lumina 2", "taef1", 16, 8, rgb="flux1",
        host_names=("Flux", "Flux1", "Chroma", "ZImage", "Lumina2", "HiDream"), flags=("is_flux", "is_flux1"),
    ),
    LatentFormat(
        "flux2", "FLUX.2", "taef2", 32, 8, rgb="flux2", packed=2,
        host_names=("Flux2", "SDXL_Flux2"), flags=("is_flux2",),
    ),
    LatentFormat(
        "sana", "Sana (DC-AE f32c32)", "taesana", 32, 32, rgb="sana",
        host_names=("Sana",), flags=("is_sana",),
    ),
    LatentFormat(
        "wan21", "Wan 2.1, Qwen Image", "taew2_1", 16, 8, rgb="wan21", frames=True,
        host_names=("Wan21", "QwenImage"), flags=("is_wan",),
    ),
    LatentFormat(
        "qwen21", "Qwen Image 2.1", "taeqi2_1", 64, 16, rgb="qwen21",
        host_names=("QwenImage21",),
    ),
)  # fmt: skip

CODEC_FORMATS: tuple[LatentFormat, ...] = tuple(
    LatentFormat(f"dc-ae-{size}-{data}", f"DC-AE {size}, {title}", None, channels, factor, rgb="")
    for size, factor, channels in (("f32c32", 32, 32), ("f64c128", 64, 128), ("f128c512", 128, 512))
    for data, title in (("in", "ImageNet"), ("mix", "mixture"))
)
"""Formats that no host samples in: they are encoded and decoded, never detected, and have no linear preview."""

BY_NAME: dict[str, LatentFormat] = {row.name: row for row in (*LATENT_FORMATS, *CODEC_FORMATS)}

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(row.family for row in LATENT_FORMATS if row.family))
"""The tiny autoencoders, by the stem of their weight files."""


def native_format(family: str) -> LatentFormat:
    """The format whose scale the family was trained on."""
    for row in LATENT_FORMATS:
        if row.family == family and row.to_family is None:
            return row
    raise KeyError(family)


def to_family_latent(latent: Tensor, latent_format: LatentFormat) -> Tensor:
    """A sampler's latent -> what the family's decoder reads; the input is never changed.

    (B,C,h,w), packed (B,4C,h/2,w/2) or with frames (B,C,T,h,w), of which the first is taken.
    """
    if latent.ndim == 5:
        latent = latent[:, :, 0]
    if latent_format.packed > 1 and latent.shape[1] == latent_format.latent_channels * latent_format.packed**2:
        latent = unpack(latent, latent_format.packed)
    return latent_format.to_family(latent) if latent_format.to_family else latent


def from_family_latent(latent: Tensor, latent_format: LatentFormat, *, packed: bool = False) -> Tensor:
    """The family's latent -> the sampler's, packed where the sampler wants it so."""
    if latent_format.from_family:
        latent = latent_format.from_family(latent)
    return pack(latent, latent_format.packed) if packed else latent


def unpack(latent: Tensor, fold: int = 2) -> Tensor:
    """(B, C*f*f, h, w) -> (B, C, f*h, f*w): channels hold (C, row, column) of each square of positions."""
    return torch.nn.functional.pixel_shuffle(latent, fold)


def pack(latent: Tensor, fold: int = 2) -> Tensor:
    """(B, C, f*h, f*w) -> (B, C*f*f, h, w), the inverse of :func:`unpack`."""
    return torch.nn.functional.pixel_unshuffle(latent, fold)


@dataclass(frozen=True)
class HostFactors:
    """The host's own linear preview of a latent format: an image in [-1,1] is ``latent @ factors + bias``."""

    factors: tuple[tuple[float, float, float], ...]
    """One row for each channel."""
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ModelEvidence:
    """What a host says about its model. Everything is optional: hosts differ."""

    latent_format: str | None = None
    """Class name of the host's latent format."""
    decoder_name: str | None = None
    """The host's own name for the tiny decoder, "taef1_decoder"."""
    flags: frozenset[str] = frozenset()
    """Names of the model's is_* attributes that are true."""
    channels: int | None = None
    stride: int | None = None
    """Image pixels per latent position, where the image's size is known."""
    frames: bool = False
    """The latent has a time axis."""
    rgb: HostFactors | None = None
    """The host's own factors for a rough preview."""


@dataclass(frozen=True)
class Detection:
    """The format, or None for "unknown", and the reason in words for a person."""

    format: LatentFormat | None
    reason: str
    rgb: HostFactors | None = None
    """What the host itself would draw an unknown format by."""

    @property
    def family(self) -> str | None:
        return self.format.family if self.format else None


def detect(evidence: ModelEvidence) -> Detection:
    """Find the latent format: the host's format name, then its decoder name, then flags; channels and stride veto.

    Several rows may claim a model (an SDXL with FLUX.2's VAE has ``is_sdxl`` too): the first claim that the channels
    allow wins. Without any claim the channels decide only where one row alone fits. "Unknown" is an answer.
    """
    vetoed: list[str] = []
    for claimed, why in _claims(evidence):
        if _fits(claimed, evidence):
            return Detection(claimed, why)
        vetoed.append(f"{why}, but its latents have {_shape_words(evidence)}")
    fitting = [row for row in LATENT_FORMATS if evidence.channels is not None and _fits(row, evidence)]
    families = {row.family for row in fitting}
    if not vetoed and len(families) == 1:
        return Detection(fitting[-1], f"latents with {_shape_words(evidence)}")
    if vetoed:
        why = vetoed[0]
    elif evidence.channels is None:
        why = "the host does not say which kind it is"
    else:
        why = f"latents with {_shape_words(evidence)} are told apart by nothing else"
    return Detection(None, f"unknown model: {why}", evidence.rgb)


def _claims(evidence: ModelEvidence) -> list[tuple[LatentFormat, str]]:
    claims = [
        (row, f"the host calls its latent format {evidence.latent_format}")
        for row in LATENT_FORMATS
        if evidence.latent_format in row.host_names
    ]
    if evidence.decoder_name:
        stem = evidence.decoder_name.removesuffix("_decoder")
        claims += [
            (row, f"the host names the decoder {evidence.decoder_name}")
            for row in LATENT_FORMATS
            if row.family == stem and row.to_family is None
        ]
    # A later architecture sets the older flags too (SSD is also is_sdxl), so the last row that claims is the narrowest.
    for row in reversed(LATENT_FORMATS):
        claims += [(row, f"the host's model says {flag}") for flag in row.flags if flag in evidence.flags]
    return claims


def _fits(row: LatentFormat, evidence: ModelEvidence) -> bool:
    if evidence.frames and not row.frames:
        return False
    return evidence.channels is None or row.accepts(evidence.channels, evidence.stride)


def _shape_words(evidence: ModelEvidence) -> str:
    words = f"{evidence.channels} channels"
    if evidence.stride is not None:
        words += f" at 1/{evidence.stride} of the size"
    if evidence.frames:
        words += " and frames"
    return words
