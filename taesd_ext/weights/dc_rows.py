"""The published DC-AEs: one row per variant.

`in` (trained on ImageNet) and `mix` (on a mixture) have one structure, so that a file's tensors do not tell which of
the two scaling factors is its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from taesd_ext.latent_formats import BY_NAME, LatentFormat
from taesd_ext.models.autoencoder_dc import Stage
from taesd_ext.weights.autoencoder_dc_files import DCArchitecture

# Source of structures and factors: scripts/convert_dcae_to_diffusers.py of huggingface/diffusers, which read them from
# mit-han-lab/efficientvit; the config.json of the -diffusers repositories.
_WIDTHS = (128, 256, 512, 512, 1024, 1024, 2048, 2048)


def _sana(blocks: tuple[int, ...]) -> tuple[Stage, ...]:
    return tuple(
        Stage(width, count, attention=i > 2, scales=(5,) if i > 2 else ())
        for i, (width, count) in enumerate(zip(_WIDTHS, blocks, strict=False))
    )


def _encoder(sizes: int) -> tuple[Stage, ...]:
    blocks = (0, 4, 8, *[2] * (sizes - 3))
    return tuple(Stage(_WIDTHS[i], count, attention=i > 2) for i, count in enumerate(blocks))


def _decoder(sizes: int) -> tuple[Stage, ...]:
    blocks = (0, 5, 10, *[2] * (sizes - 3))
    return tuple(
        Stage(_WIDTHS[i], count, attention=True)
        if i > 2
        else Stage(_WIDTHS[i], count, norm="batch_norm", activation="relu")
        for i, count in enumerate(blocks)
    )


F32C32_SANA = DCArchitecture(
    32, _sana((2, 2, 2, 3, 3, 3)), _sana((3, 3, 3, 3, 3, 3)), strided=True, interpolate=True
)  # fmt: skip
F32C32 = DCArchitecture(32, _encoder(6), _decoder(6))
F64C128 = DCArchitecture(128, _encoder(7), _decoder(7))
F128C512 = DCArchitecture(512, _encoder(8), _decoder(8))


@dataclass(frozen=True)
class DCVariant:
    """A published DC-AE: load_codec finds it by its name, which is also its family in the catalogue."""

    name: str
    title: str
    architecture: DCArchitecture
    scaling_factor: float
    format_name: str
    words: tuple[str, ...] = ()
    """Words in a file's or its folder's name, the last resort."""
    other_names: tuple[str, ...] = ()
    """More names that it goes by: of its folder, in its config.json."""

    @property
    def latent_format(self) -> LatentFormat:
        return BY_NAME[self.format_name]

    @property
    def stems(self) -> tuple[str, ...]:
        """File and folder names without suffixes, best first."""
        return (self.name, f"{self.name}-diffusers", *self.other_names)


DC_VARIANTS: tuple[DCVariant, ...] = (
    DCVariant(
        "dc-ae-f32c32-sana-1.0", "Sana's", F32C32_SANA, 0.41407, "sana", ("f32c32-sana",),
        ("dc-ae-f32c32-sana-1.1", "dc-ae-f32c32-sana-1.1-diffusers", "sana-sprint-vae"),
    ),
    DCVariant("dc-ae-f32c32-in-1.0", "ImageNet, 32x", F32C32, 0.3189, "dc-ae-f32c32-in", ("f32c32-in",)),
    DCVariant("dc-ae-f32c32-mix-1.0", "mixture, 32x", F32C32, 0.4552, "dc-ae-f32c32-mix", ("f32c32-mix",)),
    DCVariant("dc-ae-f64c128-in-1.0", "ImageNet, 64x", F64C128, 0.2889, "dc-ae-f64c128-in", ("f64c128-in",)),
    DCVariant("dc-ae-f64c128-mix-1.0", "mixture, 64x", F64C128, 0.4538, "dc-ae-f64c128-mix", ("f64c128-mix",)),
    DCVariant("dc-ae-f128c512-in-1.0", "ImageNet, 128x", F128C512, 0.4883, "dc-ae-f128c512-in", ("f128c512-in",)),
    DCVariant("dc-ae-f128c512-mix-1.0", "mixture, 128x", F128C512, 0.3620, "dc-ae-f128c512-mix", ("f128c512-mix",)),
)  # fmt: skip

DC_BY_NAME: dict[str, DCVariant] = {
    name: row for row in DC_VARIANTS for name in (row.name, f"{row.name}-diffusers", *row.other_names)
}
