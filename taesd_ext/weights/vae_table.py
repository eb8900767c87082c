"""The full-size VAEs by name, one row each, and which of them a file is.

Their latents are rows of latent_formats.py; their files, of catalog.py.

A row without more to tell it by than its name is one of several with the same latents. What tells the latents apart is
in the first row of each format: SD1's and SDXL's VAE differ in nothing but their numbers, nor do SD3's and FLUX.1's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import BY_NAME, CODEC_FORMATS, LatentFormat
from taesd_ext.weights.catalog import CATALOG
from taesd_ext.weights.folders import DIFFUSERS_STEM
from taesd_ext.weights.identify import identify
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.tiny_file import UnknownStructure

AUTOENCODER_KL = "autoencoder_kl"
AUTOENCODER_WAN = "autoencoder_wan"
AUTOENCODER_DC = "autoencoder_dc"
CONSISTENCY_DECODER = "consistency_decoder"


@dataclass(frozen=True)
class NamedVAE:
    """A full-size VAE that load_codec finds by its name among the search folders."""

    name: str
    """Also its family in the catalogue, where its files were published."""
    format_name: str
    other_names: tuple[str, ...] = ()
    """File names without a suffix under which people keep it."""
    network: str = AUTOENCODER_KL
    """Module of models/."""
    plain: bool | None = None
    """Of DC-AE: whether the sizes change by strides and repeated pixels."""
    context: tuple[int, ...] = ()
    """Widths of the text that the UNet in the same checkpoint attends to."""
    keys: tuple[str, ...] = ()
    """Pieces of keys of the transformer or the text encoders in the same checkpoint."""
    words: str = ""
    """What a file's or its folder's name may have besides the format's own words, as a regular expression."""
    float16_overflows: bool = False
    """Activations pass 65504, float16's end: such a VAE gives NaN."""
    cost: str = ""
    """What a person should know of its time and memory before it starts."""

    @property
    def latent_format(self) -> LatentFormat:
        return BY_NAME[self.format_name]

    @property
    def stems(self) -> tuple[str, ...]:
        """File and folder names without suffixes, official ones first."""
        official = (row.name.rpartition(".")[0] for row in CATALOG if row.family == self.name)
        names = (*official, self.name, f"{self.name}-diffusers", *self.other_names)
        return tuple(dict.fromkeys(name for name in names if not name.startswith(DIFFUSERS_STEM)))

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        words = "|".join(filter(None, (self.latent_format.words, self.words)))
        return re.compile(f"(?<![a-z0-9])(?:{words})") if words else None


VAES: tuple[NamedVAE, ...] = (
    NamedVAE(
        "sd15-vae", "sd1", ("sd15_vae", "sd1-vae", "sd1_vae"),
        context=(768, 1024), keys=("cond_stage_model.",), words=r"v1-5|v2-1|(?:sd-)?vae-ft|kl-f8",
    ),
    NamedVAE("sd-vae-ft-mse", "sd1"),
    NamedVAE("sd-vae-ft-ema", "sd1"),
    NamedVAE(
        "consistency-decoder", "sd1", ("consistency_decoder",), network=CONSISTENCY_DECODER,
        cost="it draws each image in two steps of a large network: 27 times the work of the VAE's own decoder, "
        "some 17 CPU minutes and 5.7 GB for 512x512 without a graphics card",
    ),
    NamedVAE(
        "sdxl-vae", "sdxl", ("sdxl_vae",),
        context=(2048, 1280), keys=("conditioner.embedders.",), words="xlvae|xl_vae", float16_overflows=True,
    ),
    NamedVAE(
        "sdxl-vae-fp16-fix", "sdxl", ("sdxl_vae_fp16_fix", "sdxl-vae-fp16fix", "sdxl_vae_fp16fix", "sdxl.vae")
    ),
    NamedVAE("sd3-vae", "sd3", ("sd3_vae", "sd3.5_vae", "sd3.5-vae"), keys=("joint_blocks.0.",)),
    NamedVAE(
        "flux-vae", "flux1", ("flux_vae", "flux1-vae"),
        keys=("double_blocks.0.", "cap_embedder."), words="z[-_]image|chroma|lumina",
    ),
    NamedVAE("flux2-vae", "flux2", ("flux2_vae", "flux2-ae", "flux2_ae")),
    NamedVAE("flux2-small-decoder", "flux2", ("full_encoder_small_decoder", "small_decoder", "FLUX.2-small-decoder")),
    NamedVAE(
        "wan21-vae", "wan21",
        ("wan_2.1_vae", "Wan2.1_VAE", "qwen_image_vae", "Qwen2D_VAE"), network=AUTOENCODER_WAN,
    ),
    NamedVAE(
        "dc-ae-f32c32-sana-1.0", "sana",
        ("dc-ae-f32c32-sana-1.1", "dc-ae-f32c32-sana-1.1-diffusers", "sana-sprint-vae"),
        network=AUTOENCODER_DC, plain=True,
    ),
    *(
        NamedVAE(
            f"{row.name}-1.0", row.name, network=AUTOENCODER_DC, plain=False, words=row.name.removeprefix("dc-ae-")
        )
        for row in CODEC_FORMATS
    ),
)  # fmt: skip

VAE_BY_NAME: dict[str, NamedVAE] = {
    name: row
    for row in reversed(VAES)
    for name in (row.format_name, *row.other_names, f"{row.name}-diffusers", row.name)
}
"""A format's name is that of its first row."""

FULL_NAMES: tuple[str, ...] = tuple(row.name for row in VAES)

_SAME_FACTOR = 1e-6


def at_work(name: str) -> str:
    """What a page says of a decoder at work: its name, and what it takes where that is much."""
    known = VAE_BY_NAME.get(name)
    return f"{name}: {known.cost}" if known and known.cost else name


def kind_of(
    file: TensorFile, prefix: str, network: nn.Module, config: dict[str, Any], variant: str | None
) -> tuple[NamedVAE, str]:
    """The row of the VAE in a file, and the reason in words; ``prefix`` stands before its keys.

    Evidence, best first: the user (``variant``), the file's checksum, the config.json beside it, the diffusion model in
    the same checkpoint, words in its name. Without any it is refused rather than guessed at: raises TaesdError.
    """
    fitting = _fitting(file.path, network)
    choices = " or ".join(row.name for row in fitting)
    if variant is not None:
        named = VAE_BY_NAME.get(variant)
        if named is None or named.format_name not in {row.format_name for row in fitting}:
            why = "its tensors are of another VAE"
            raise TaesdError(f"{file.path} cannot be {variant}", why, f"It may be {choices}")
        return named, f"given as {variant}"
    for always_hash in (False, True):
        official = None if prefix else identify(file.path, always_hash=always_hash).official
        if official and (named := VAE_BY_NAME.get(official.family)):
            return named, f"its checksum is that of {official}"
        found = _by_config(config, fitting) or _by_neighbours(file, prefix, fitting)
        if found is None and len(fitting) == 1:
            found = fitting[0], f"only {fitting[0].latent_format.title} has such latents"
        if found:
            return found
    if found := _by_words(file.path, fitting):
        return found
    raise TaesdError(
        f"{file.path} is a VAE of {' or '.join(row.latent_format.title for row in fitting)}",
        "these differ only in their values, and neither its name, its checksum nor the rest of the file says which",
        f"Say which (--variant or variant=): {choices}, or put that into its name",
    )


def _fitting(path: Path, network: nn.Module) -> list[NamedVAE]:
    """The first row of each format whose VAE may have this network."""
    module = type(network).__module__.rpartition(".")[2]
    shape = module, network.latent_channels, network.spatial_scale_factor
    rows = [
        row
        for row in VAES
        if (row.network, row.latent_format.latent_channels, row.latent_format.spatial_scale_factor) == shape
        and row.plain in (None, getattr(network, "plain", None))
    ]
    if not rows:
        raise UnknownStructure(
            f"{path} is a full-size VAE with {shape[1]} latent channels and {shape[2]} pixels per position",
            "no known diffusion model has such latents",
            f"Known are {', '.join(row.name for row in VAES)}",
        )
    return list({row.format_name: row for row in reversed(rows)}.values())[::-1]


def _by_config(config: dict[str, Any], fitting: list[NamedVAE]) -> tuple[NamedVAE, str] | None:
    named = VAE_BY_NAME.get(str(config.get("model_name")))
    if named in fitting:
        return named, f"its config.json names {config['model_name']}"
    factor, shift = config.get("scaling_factor"), config.get("shift_factor") or 0.0
    if not isinstance(factor, (int, float)) or not isinstance(shift, (int, float)):
        return None
    for row in fitting:
        known = row.latent_format
        if isinstance(known.shift, tuple) or known.packed > 1:
            continue
        if abs(known.scaling_factor - factor) < _SAME_FACTOR and abs(known.shift - shift) < _SAME_FACTOR:
            return row, f"its config.json has scaling_factor {factor}"
    return None


def _by_neighbours(file: TensorFile, prefix: str, fitting: list[NamedVAE]) -> tuple[NamedVAE, str] | None:
    """What the diffusion model in the same checkpoint says."""
    for name, shape in file.shapes.items():
        if prefix and name.startswith(prefix):
            continue
        for row in fitting:
            if name.endswith("attn2.to_k.weight") and shape[-1:] and shape[-1] in row.context:
                return row, f"the UNet in the same file has a text width of {shape[-1]}"
            if any(piece in name for piece in row.keys):
                return row, f"the model in the same file has {name}"
    return None


def _by_words(path: Path, fitting: Iterable[NamedVAE]) -> tuple[NamedVAE, str] | None:
    """The one row whose word is in the name; a file's own name counts before its folder's."""
    for text in (path.stem.lower(), path.parent.name.lower()):
        named = [(row, match[0]) for row in fitting if row.pattern and (match := row.pattern.search(text))]
        if len(named) == 1:
            return named[0][0], f'its name has "{named[0][1]}"'
    return None
