"""One row per latent format: what a diffusion model's latent looks like and which tiny autoencoder reads it.

A *latent format* is a convention of numbers (channels, stride, scale); a *family* is a tiny autoencoder trained for
it, named as its weight files are ("taesd", "taesdxl", ...). Adding a model is adding a row.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from taesd_ext.latent_format import LatentFormat, pack, picture_part, unpack

_FILE = Path(__file__).parent / "data" / "latent_channels.json"
_OF_CHANNELS: dict[str, dict[str, tuple[float, ...]]] = {
    name: {kind: tuple(values) for kind, values in row.items()}
    for name, row in json.loads(_FILE.read_text(encoding="utf-8")).items()
}
"""Means ("shift") and deviations, by row."""

# Sources of names, channels, factors, means and deviations: comfy/latent_formats.py of Comfy-Org/ComfyUI (75399d7),
# modules_forge/packages/huggingface_guess/latent.py of Forge Neo, vae/config.json of the models' own repositories.
# The tiny autoencoders: README of madebyollin/taesd, taehv and taem1.
LATENT_FORMATS: tuple[LatentFormat, ...] = (
    LatentFormat(
        "sd1", "Stable Diffusion 1 and 2", "taesd", 4, 8, host_names=("SD15", "SD20"), flags=("is_sd1", "is_sd2"),
        words=r"sd[ ._-]?v?[12](?:[ ._-]?[015])?(?![a-z0-9])", scaling_factor=0.18215,
        previewer=True, approx_nn="model.pt",
    ),
    LatentFormat(
        "sdxl", "SDXL, SSD-1B, SDXL refiner", "taesdxl", 4, 8, host_names=("SDXL",), flags=("is_sdxl", "is_ssd"),
        words=r"sd[ ._-]?xl|xl(?![a-z0-9])", scaling_factor=0.13025, previewer=True, approx_nn="vaeapprox-sdxl.pt",
    ),
    LatentFormat(
        "playground25", "Playground 2.5", "taesdxl", 4, 8, host_names=("SDXL_Playground_2_5",), rgb="sdxl",
        scaling_factor=0.5, shift=(-1.6574, 1.886, -1.383, 2.5155), deviations=(8.4927, 5.9022, 6.5498, 5.2299),
    ),
    LatentFormat("sd-x4", "Stable Diffusion x4 upscaler", None, 4, 4, host_names=("SD_X4",), scaling_factor=0.08333),
    LatentFormat(
        "sd3", "Stable Diffusion 3 and 3.5", "taesd3", 16, 8, host_names=("SD3",), flags=("is_sd3",),
        words=r"sd[ ._-]?v?3(?:[ ._-]?5)?(?![a-z0-9])", scaling_factor=1.5305, shift=0.0609,
        previewer=True, approx_nn="vaeapprox-sd3.pt",
    ),
    LatentFormat(
        "flux1", "FLUX.1, Chroma, Z-Image, HiDream, Lumina 2, OmniGen 2, Ovis-Image, LongCat-Image", "taef1", 16, 8,
        host_names=("Flux", "Flux1", "Chroma", "ZImage", "Lumina2", "HiDream"), flags=("is_flux", "is_flux1"),
        words=r"flux(?:[ ._-]?1)?(?![ ._-]?[23])|f1(?![a-z0-9])", scaling_factor=0.3611, shift=0.1159, previewer=True,
    ),
    LatentFormat(
        "flux2", "FLUX.2, FLUX.3, ERNIE-Image, Ideogram 4, Lens, MOSS-Image, Mugen", "taef2", 32, 8,
        packed=2, midblock_norm=True, host_names=("Flux2", "SDXL_Flux2"), flags=("is_flux2",),
        words=r"flux[ ._-]?[23]|f2(?![a-z0-9])", previewer=True,
    ),
    LatentFormat(
        "sana", "Sana (DC-AE f32c32)", "taesana", 32, 32, host_names=("Sana",), flags=("is_sana",), words=r"sana",
        scaling_factor=0.41407,
    ),
    LatentFormat(
        "wan21", "Wan 2.1, Wan 2.2 14B, Qwen Image, Anima, Krea 2, Cosmos-Predict 2", "taew2_1", 16, 8, frames=True,
        host_names=("Wan21", "QwenImage"), flags=("is_wan",), other_decoders=("lighttaew2_1",),
        words=r"wan[ ._-]?v?2[ ._-]?1|qwen[ ._-]?image(?![ ._-]?2)|anima(?![a-z])",
        **_OF_CHANNELS["wan21"],
    ),
    LatentFormat(
        "wan22", "Wan 2.2 5B", "taew2_2", 48, 16, frames=True, host_names=("Wan22",),
        other_decoders=("lighttaew2_2", "taew2_2_super"), words=r"wan[ ._-]?v?2[ ._-]?2",
        **_OF_CHANNELS["wan22"],
    ),
    LatentFormat(
        "qwen21", "Qwen Image 2.1", "taeqi2_1", 64, 16, host_names=("QwenImage21",),
        other_decoders=("taeqi2_1_tinier",), words=r"qwen[ ._-]?image[ ._-]?2[ ._-]?1",
        **_OF_CHANNELS["qwen21"],
    ),
    LatentFormat(
        "hunyuan-video", "HunyuanVideo", "taehv", 16, 8, frames=True, host_names=("HunyuanVideo",),
        words=r"hunyuan[ ._-]?video(?![ ._-]?1[ ._-]?5)", scaling_factor=0.476986,
    ),
    LatentFormat(
        "hunyuan-video15", "HunyuanVideo 1.5", "taehv1_5", 32, 16, frames=True, host_names=("HunyuanVideo15",),
        other_decoders=("lighttaehy1_5", "taehv1_5_super"), words=r"hunyuan[ ._-]?video[ ._-]?1[ ._-]?5",
        scaling_factor=1.03682,
    ),
    LatentFormat(
        "hunyuan-image21", "HunyuanImage 2.1", None, 64, 32, host_names=("HunyuanImage21",), scaling_factor=0.75289,
    ),
    LatentFormat(
        "hunyuan-refiner", "HunyuanImage 2.1 refiner", "taehv1_5", 32, 16, frames=True, folded_frames=2,
        host_names=("HunyuanImage21Refiner",), rgb="hunyuan-video15", scaling_factor=1.03682,
    ),
    LatentFormat("ltxv", "LTX-Video", None, 128, 32, frames=True, host_names=("LTXV",)),
    LatentFormat(
        "ltx2", "LTX-2", "taeltx_2", 128, 32, frames=True, splits=(2, 2, 2), host_names=("LTXAV",),
        words=r"ltx[ ._-]?v?2(?![ ._-]?3)",
    ),
    LatentFormat(
        "ltx23", "LTX-2.3", "taeltx2_3", 128, 32, frames=True, splits=(2, 2, 2), other_decoders=("taeltx2_3_wide",),
        rgb="ltx2", words=r"ltx[ ._-]?v?2[ ._-]?3",
    ),
    LatentFormat(
        "h3", "MiniMax H3", "taeh3", 24, 16, frames=True, chunk=5, host_names=("MiniMaxH3Video", "MiniMaxH3AV"),
        words=r"minimax[ ._-]?h3",
    ),
    LatentFormat(
        "mochi", "Mochi 1", "taem1", 12, 8, frames=True, splits=(1, 2, 3), host_names=("Mochi",), words=r"mochi",
        **_OF_CHANNELS["mochi"],
    ),
    LatentFormat(
        "cogvideox15", "CogVideoX 5B, CogVideoX 1.5", "taecvx", 16, 8, frames=True, whole_if_even=True,
        host_names=("CogVideoX1_5",), rgb="cogvideox", words=r"cog[ ._-]?video", scaling_factor=0.7,
    ),
    LatentFormat(
        "cogvideox", "CogVideoX 2B", "taecvx", 16, 8, frames=True, whole_if_even=True, host_names=("CogVideoX",),
        scaling_factor=1.15258426,
    ),
    LatentFormat("opensora13", "Open-Sora 1.3", "taeos1_3", 16, 8, frames=True, words=r"open[ ._-]?sora"),
    LatentFormat("cosmos1", "Cosmos 1", None, 16, 8, frames=True, host_names=("Cosmos1CV8x8x8",)),
    LatentFormat("ming", "Ming-Image", None, 16, 8, frames=True, host_names=("MingImage",), scaling_factor=8.0064),
    LatentFormat("seedvr2", "SeedVR2", None, 16, 8, frames=True, host_names=("SeedVR2",)),
    LatentFormat(
        "sd1-views", "Hunyuan3D 2.1 Paint, its views as a film", "taesd", 4, 8, frames=True,
        host_names=("Hunyuan3Dv2_1Paint",), rgb="sd1", scaling_factor=0.18215,
    ),
    LatentFormat("cascade-prior", "Stable Cascade, stage C", None, 16, 42, host_names=("SC_Prior",)),
    LatentFormat("cascade", "Stable Cascade, stage B", None, 4, 4, host_names=("SC_B",), scaling_factor=1 / 0.43),
    LatentFormat(
        "rgb", "Pixel-space models: PiD, Chroma Radiance, Z-Image, HiDream-O1, PixelDiT", None, 3, 1,
        host_names=("RGB", "ChromaRadiance", "ZImagePixelSpace", "HiDreamO1Pixel", "PixelDiTPixel"),
    ),
)  # fmt: skip

CODEC_FORMATS: tuple[LatentFormat, ...] = tuple(
    LatentFormat(f"dc-ae-{size}-{data}", f"DC-AE {size}, {title}", None, channels, factor, scaling_factor=scale)
    for size, factor, channels, scales in (
        ("f32c32", 32, 32, (0.3189, 0.4552)),
        ("f64c128", 64, 128, (0.2889, 0.4538)),
        ("f128c512", 128, 512, (0.4883, 0.3620)),
    )
    for data, title, scale in zip(("in", "mix"), ("ImageNet", "mixture"), scales, strict=True)
)
"""Formats that no host samples in: they are encoded and decoded, never detected, and have no linear preview."""

BY_NAME: dict[str, LatentFormat] = {row.name: row for row in (*LATENT_FORMATS, *CODEC_FORMATS)}

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(row.family for row in LATENT_FORMATS if row.family))
"""The tiny autoencoders, by the stem of their weight files."""

NAMES_OF_FAMILIES: dict[str, str] = {
    name: row.family for row in LATENT_FORMATS if row.family for name in (row.family, *row.other_decoders)
}
"""Every name of a tiny autoencoder -> the family whose latents it reads."""


def native_format(family: str) -> LatentFormat:
    """The format whose scale the family was trained on."""
    for row in LATENT_FORMATS:
        if row.family == family:
            return row
    raise KeyError(family)


def to_family_latent(latent: Tensor, latent_format: LatentFormat) -> Tensor:
    """A sampler's latent -> what the family's decoder reads; the input is never changed.

    (B,C,h,w), packed (B,4C,h/2,w/2) or with frames (B,C,T,h,w), of which the first is taken; nested with sound, of
    which the pictures are taken.
    """
    latent = picture_part(latent)
    if latent.ndim == 5:
        latent = latent[:, :, 0]
    if latent_format.folded_frames > 1 and latent.shape[1] != latent_format.latent_channels:
        latent = latent[:, -latent_format.latent_channels :]  # the frames before lie before the video
    if latent_format.packed > 1 and latent.shape[1] == latent_format.latent_channels * latent_format.packed**2:
        latent = unpack(latent, latent_format.packed)
    native = _native(latent_format)
    return latent if native is None else native.from_vae(latent_format.to_vae(latent))


def from_family_latent(latent: Tensor, latent_format: LatentFormat, *, packed: bool = False) -> Tensor:
    """The family's latent -> the sampler's, packed where the sampler wants it so."""
    native = _native(latent_format)
    if native is not None:
        latent = latent_format.from_vae(native.to_vae(latent))
    return pack(latent, latent_format.packed) if packed else latent


def _native(latent_format: LatentFormat) -> LatentFormat | None:
    """The family's own format, where its scale is another."""
    if latent_format.family is None:
        return None
    native = native_format(latent_format.family)
    scales = [(row.scaling_factor, row.shift, row.deviations) for row in (native, latent_format)]
    return native if scales[0] != scales[1] else None


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
    rgb: Any = None
    """The host's own factors for a rough preview, as those of models/latent_rgb.py."""


@dataclass(frozen=True)
class Detection:
    """The format, or None for "unknown", and the reason in words for a person."""

    format: LatentFormat | None
    reason: str
    rgb: Any = None
    """What the host itself would draw an unknown format by."""
    guess: bool = False
    """Nothing but the latent's shape speaks for it."""
    named: bool = False
    """The host has a name of its own for a format that is unknown here."""

    @property
    def family(self) -> str | None:
        return self.format.family if self.format else None


_UNNAMED = (None, "LatentFormat")
"""What a host's format is called when it does not say which it is: nothing, or the base class."""


def detect(evidence: ModelEvidence) -> Detection:
    """Find the latent format: the host's format name, then its decoder name, then flags; channels and stride veto.

    Several rows may claim a model (an SDXL with FLUX.2's VAE has ``is_sdxl`` too): the first claim that the channels
    allow wins. A format that the host names and no row has is unknown, unless its decoder is one of ours. Without any
    claim the shape decides where one row alone has it, which is a guess. "Unknown" is an answer.
    """
    vetoed: list[str] = []
    named = evidence.latent_format not in _UNNAMED
    for claimed, why in _claims(evidence):
        if _fits(claimed, evidence):
            return Detection(claimed, why)
        vetoed.append(f"{why}, but its latents have {_shape_words(evidence)}")
    if vetoed:
        why = vetoed[0]
    elif named:
        why = f"the WebUI calls its latent format {evidence.latent_format}"
    elif evidence.channels is None:
        why = "the WebUI does not say what kind it is"
    else:
        fitting = [row for row in LATENT_FORMATS if _fits(row, evidence)]
        shape = _shape_words(evidence)
        if len(fitting) == 1:
            return Detection(fitting[0], f"a guess: of known models only this one has {shape}", guess=True)
        why = f"latents with {shape} are told apart by nothing else"
    return Detection(None, f"unknown model: {why}", evidence.rgb, named=named)


def _claims(evidence: ModelEvidence) -> list[tuple[LatentFormat, str]]:
    claims = [
        (row, f"the WebUI calls its latent format {evidence.latent_format}")
        for row in LATENT_FORMATS
        if evidence.latent_format in row.host_names
    ]
    family = NAMES_OF_FAMILIES.get((evidence.decoder_name or "").removesuffix("_decoder"))
    if family:
        claims.append((native_format(family), f"the WebUI names the decoder {evidence.decoder_name}"))
    if claims or evidence.latent_format in _UNNAMED:
        # A later architecture sets the older flags too (SSD is also is_sdxl), so the last row that claims is the
        # narrowest.
        for row in reversed(LATENT_FORMATS):
            claims += [(row, "the WebUI says so") for flag in row.flags if flag in evidence.flags]
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
