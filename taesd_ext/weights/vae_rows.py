"""The SD VAEs by name: one row per scale of latents, one per VAE; their files are rows of data/official_files.json.

A row of :data:`KL_KINDS` is what tells apart VAEs of the same structure: SD1's and SDXL's differ in nothing but their
numbers, nor do SD3's and FLUX.1's.
"""

from __future__ import annotations

from dataclasses import dataclass

from taesd_ext.latent_formats import BY_NAME, LatentFormat
from taesd_ext.weights.catalog import CATALOG


@dataclass(frozen=True)
class KLKind:
    """A scale of latents: what the diffusion model's numbers are, and what gives a file away as of this kind."""

    name: str
    """The row of :data:`NAMED_VAES` for a VAE of this kind of which no more is known."""
    format_name: str
    latent_channels: int
    scaling_factor: float | None
    """None: the file itself holds the scale (FLUX.2)."""
    shift_factor: float = 0.0
    context: tuple[int, ...] = ()
    """Widths of the text that the UNet in the same checkpoint attends to."""
    keys: tuple[str, ...] = ()
    """Pieces of keys of the transformer or the text encoders in the same checkpoint."""
    words: tuple[str, ...] = ()
    """Words in a file's or its folder's name, the last resort."""
    float16_overflows: bool = False
    """Activations pass 65504, float16's end: such a VAE gives NaN."""

    @property
    def latent_format(self) -> LatentFormat:
        return BY_NAME[self.format_name]


# Sources of the factors: vae/config.json of runwayml/stable-diffusion-v1-5, stabilityai/stable-diffusion-xl-base-1.0,
# stabilityai/stable-diffusion-3-medium-diffusers and black-forest-labs/FLUX.1-dev; FLUX.2's lie in its file.
KL_KINDS: tuple[KLKind, ...] = (
    KLKind(
        "sd15-vae", "sd1", 4, 0.18215, context=(768, 1024), keys=("cond_stage_model.",),
        words=("sd1", "sd-1", "sd_1", "sd2", "sd-2", "sd_2", "v1-5", "v2-1", "sd-vae-ft", "vae-ft", "kl-f8"),
    ),
    KLKind(
        "sdxl-vae", "sdxl", 4, 0.13025, context=(2048, 1280), keys=("conditioner.embedders.",),
        words=("sdxl", "sd_xl", "sd-xl", "xlvae", "xl_vae"), float16_overflows=True,
    ),
    KLKind("sd3-vae", "sd3", 16, 1.5305, 0.0609, keys=("joint_blocks.0.",), words=("sd3", "sd-3", "sd_3")),
    KLKind(
        "flux-vae", "flux1", 16, 0.3611, 0.1159, keys=("double_blocks.0.", "cap_embedder."),
        words=("flux", "z-image", "z_image", "chroma", "lumina"),
    ),
    KLKind("flux2-vae", "flux2", 32, None, words=("flux2", "flux.2", "flux-2")),
)  # fmt: skip


@dataclass(frozen=True)
class NamedVAE:
    """A VAE that load_codec finds by its name among the search folders."""

    name: str
    """Also its family in the catalogue, where its files were published."""
    title: str
    kind: str
    other_names: tuple[str, ...] = ()
    """File names without a suffix under which people keep it."""
    float16_overflows: bool | None = None
    """None: as its kind."""

    @property
    def stems(self) -> tuple[str, ...]:
        """File names without suffixes, official ones first. A diffusers folder's file is known by its folder."""
        official = (row.name.rpartition(".")[0] for row in CATALOG if row.family == self.name)
        names = (*official, self.name, *self.other_names)
        return tuple(dict.fromkeys(name for name in names if not name.startswith(DIFFUSERS_STEM)))


DIFFUSERS_STEM = "diffusion_pytorch_model"

NAMED_VAES: tuple[NamedVAE, ...] = (
    NamedVAE("sd-vae-ft-mse", "SD 1 and 2, fine-tuned on squared error (840,000 steps): smoother", "sd15-vae"),
    NamedVAE("sd-vae-ft-ema", "SD 1 and 2, fine-tuned as it was trained (560,000 steps): sharper", "sd15-vae"),
    NamedVAE("sd15-vae", "SD 1.5's own", "sd15-vae", ("sd15_vae", "sd1-vae", "sd1_vae")),
    NamedVAE("sdxl-vae", "SDXL's own", "sdxl-vae", ("sdxl_vae",)),
    NamedVAE(
        "sdxl-vae-fp16-fix", "SDXL, made fit for float16", "sdxl-vae",
        ("sdxl_vae_fp16_fix", "sdxl-vae-fp16fix", "sdxl_vae_fp16fix", "sdxl.vae"), float16_overflows=False,
    ),
    NamedVAE("sd3-vae", "SD3's and SD3.5's own", "sd3-vae", ("sd3_vae", "sd3.5_vae", "sd3.5-vae")),
    NamedVAE("flux-vae", "FLUX.1's own, also of Chroma, Z-Image, Lumina 2", "flux-vae", ("flux_vae", "flux1-vae")),
    NamedVAE("flux2-vae", "FLUX.2's own", "flux2-vae", ("flux2_vae", "flux2-ae", "flux2_ae")),
)  # fmt: skip

KIND_BY_NAME = {kind.name: kind for kind in KL_KINDS}
VAE_BY_NAME = {row.name: row for row in NAMED_VAES}
