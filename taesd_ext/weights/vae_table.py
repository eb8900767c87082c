"""The full-size VAEs by name, one row each. Their latents are rows of latent_formats.py; their files, of catalog.py.

A row without more to tell it by than its name is one of several with the same latents. What tells the latents apart is
in the first row of each format: SD1's and SDXL's VAE differ in nothing but their numbers, nor do SD3's and FLUX.1's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from taesd_ext.latent_formats import BY_NAME, LatentFormat
from taesd_ext.weights.catalog import AUTOENCODER_DC, AUTOENCODER_KL, CATALOG
from taesd_ext.weights.folders import DIFFUSERS_STEM

AUTOENCODER_WAN = "autoencoder_wan"


@dataclass(frozen=True)
class NamedVAE:
    """A full-size VAE that load_codec finds by its name among the search folders."""

    name: str
    """Also its family in the catalogue, where its files were published."""
    title: str
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


def _dc_ae(size: str, data: str) -> NamedVAE:
    title = {"in": "DC-AE, trained on ImageNet", "mix": "DC-AE, trained on a mixture"}[data]
    name = f"dc-ae-{size}-{data}"
    return NamedVAE(
        f"{name}-1.0", f"{title}, {size}", name, network=AUTOENCODER_DC, plain=False, words=f"{size}-{data}"
    )


VAES: tuple[NamedVAE, ...] = (
    NamedVAE(
        "sd15-vae", "SD 1.5's own", "sd1", ("sd15_vae", "sd1-vae", "sd1_vae"),
        context=(768, 1024), keys=("cond_stage_model.",), words=r"v1-5|v2-1|(?:sd-)?vae-ft|kl-f8",
    ),
    NamedVAE("sd-vae-ft-mse", "SD 1 and 2, fine-tuned on squared error (840,000 steps): smoother", "sd1"),
    NamedVAE("sd-vae-ft-ema", "SD 1 and 2, fine-tuned as it was trained (560,000 steps): sharper", "sd1"),
    NamedVAE(
        "sdxl-vae", "SDXL's own", "sdxl", ("sdxl_vae",),
        context=(2048, 1280), keys=("conditioner.embedders.",), words="xlvae|xl_vae", float16_overflows=True,
    ),
    NamedVAE(
        "sdxl-vae-fp16-fix", "SDXL, made fit for float16", "sdxl",
        ("sdxl_vae_fp16_fix", "sdxl-vae-fp16fix", "sdxl_vae_fp16fix", "sdxl.vae"),
    ),
    NamedVAE(
        "sd3-vae", "SD3's and SD3.5's own", "sd3", ("sd3_vae", "sd3.5_vae", "sd3.5-vae"), keys=("joint_blocks.0.",)
    ),
    NamedVAE(
        "flux-vae", "FLUX.1's own, also of Chroma, Z-Image, Lumina 2", "flux1", ("flux_vae", "flux1-vae"),
        keys=("double_blocks.0.", "cap_embedder."), words="z[-_]image|chroma|lumina",
    ),
    NamedVAE("flux2-vae", "FLUX.2's own", "flux2", ("flux2_vae", "flux2-ae", "flux2_ae")),
    NamedVAE(
        "flux2-small-decoder", "FLUX.2, with a narrower decoder: quicker", "flux2",
        ("full_encoder_small_decoder", "small_decoder", "FLUX.2-small-decoder"),
    ),
    NamedVAE(
        "wan21-vae", "Wan 2.1's and Qwen Image's own, for stills", "wan21",
        ("wan_2.1_vae", "Wan2.1_VAE", "qwen_image_vae", "Qwen2D_VAE"), network=AUTOENCODER_WAN,
    ),
    NamedVAE(
        "dc-ae-f32c32-sana-1.0", "DC-AE, Sana's", "sana",
        ("dc-ae-f32c32-sana-1.1", "dc-ae-f32c32-sana-1.1-diffusers", "sana-sprint-vae"),
        network=AUTOENCODER_DC, plain=True,
    ),
    *(_dc_ae(size, data) for size in ("f32c32", "f64c128", "f128c512") for data in ("in", "mix")),
)  # fmt: skip

VAE_BY_NAME: dict[str, NamedVAE] = {
    name: row
    for row in reversed(VAES)
    for name in (row.format_name, *row.other_names, f"{row.name}-diffusers", row.name)
}
"""A format's name is that of its first row."""

FULL_NAMES: tuple[str, ...] = tuple(row.name for row in VAES)
