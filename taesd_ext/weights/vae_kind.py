"""Whose latents an SD VAE's file makes: SD1's and SDXL's VAE look alike, and so do SD3's and FLUX.1's.

Evidence, best first: the user, the file's checksum, the config.json beside it, the diffusion model in the same
checkpoint, words in its name. Without any the file is refused rather than guessed at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from taesd_ext.errors import TaesdError
from taesd_ext.weights.identify import identify
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.vae_rows import DIFFUSERS_STEM, KIND_BY_NAME, KL_KINDS, VAE_BY_NAME, KLKind

# A config.json of a VAE has 1 kB; nothing larger is read.
_LARGEST_CONFIG = 2**16
# FLUX.2's own scale is in its file, so its config has no factor.
_SAME = 1e-6


@dataclass(frozen=True)
class Kind:
    """The kind of an SD VAE's file, the name it goes by, and the reason in words for a person."""

    row: KLKind
    name: str
    reason: str

    @property
    def float16_overflows(self) -> bool:
        named = VAE_BY_NAME.get(self.name)
        if named is None or named.float16_overflows is None:
            return self.row.float16_overflows
        return named.float16_overflows


def read_config(path: Path) -> dict[str, object]:
    """The diffusers config.json that belongs to a weight file or a folder; empty when there is none or it is broken."""
    config = path / "config.json" if path.is_dir() else path.parent / "config.json"
    if not path.is_dir() and not path.name.startswith((DIFFUSERS_STEM, "model.")):
        return {}
    try:
        if config.stat().st_size > _LARGEST_CONFIG:
            return {}
        loaded = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def kind_of(
    file: TensorFile, prefix: str, latent_channels: int, config: dict[str, object], variant: str | None = None
) -> Kind:
    """The kind of a VAE found at ``prefix`` in a file. ``variant`` is what the user says it is.

    Raises TaesdError when nothing tells, or when the user's word cannot be true.
    """
    fitting = [row for row in KL_KINDS if row.latent_channels == latent_channels]
    if not fitting:
        raise TaesdError(
            f"{file.path} is an SD VAE with {latent_channels} latent channels",
            "no known diffusion model has such latents",
            f"Known are {', '.join(KIND_BY_NAME)}",
        )
    if variant is not None:
        return _chosen(file.path, variant, fitting)
    if not prefix and (row := identify(file.path).official) and row.family in VAE_BY_NAME:
        return Kind(KIND_BY_NAME[VAE_BY_NAME[row.family].kind], row.family, f"its checksum is that of {row}")
    found = _by_config(config, fitting) or _by_neighbours(file, prefix, fitting)
    if found is None and len(fitting) == 1:
        found = fitting[0], f"only {fitting[0].latent_format.title} has {latent_channels} channels"
    found = found or _by_words(file.path, fitting)
    if found is None:
        raise TaesdError(
            f"{file.path} is the VAE of one of {' or '.join(row.latent_format.title for row in fitting)}",
            "they differ in nothing but their numbers, and its name, checksum and neighbours do not tell",
            f"Say which (--variant or variant=): {fitting[0].name} or {fitting[1].name}, or put that into its name",
        )
    return Kind(found[0], found[0].name, found[1])


def _chosen(path: Path, variant: str, fitting: list[KLKind]) -> Kind:
    kind = VAE_BY_NAME[variant].kind if variant in VAE_BY_NAME else variant
    for row in fitting:
        if kind in (row.name, row.format_name):
            return Kind(row, variant if variant in VAE_BY_NAME else row.name, f"told to be {variant}")
    raise TaesdError(
        f"{path} cannot be {variant}",
        f"its latents have {fitting[0].latent_channels} channels",
        f"It may be {' or '.join(row.name for row in fitting)}",
    )


def _by_config(config: dict[str, object], fitting: list[KLKind]) -> tuple[KLKind, str] | None:
    factor, shift = config.get("scaling_factor"), config.get("shift_factor") or 0.0
    if not isinstance(factor, (int, float)) or not isinstance(shift, (int, float)):
        return None
    for row in fitting:
        same = row.scaling_factor is not None and abs(row.scaling_factor - factor) < _SAME
        if same and abs(row.shift_factor - shift) < _SAME:
            return row, f"its config.json has scaling_factor {factor}"
    return None


def _by_neighbours(file: TensorFile, prefix: str, fitting: list[KLKind]) -> tuple[KLKind, str] | None:
    """What the diffusion model in the same checkpoint says."""
    for name, shape in file.shapes.items():
        if prefix and name.startswith(prefix):
            continue
        for row in fitting:
            if name.endswith("attn2.to_k.weight") and shape[-1:] and shape[-1] in row.context:
                return row, f"the UNet beside it reads a text of {shape[-1]} numbers"
            if any(piece in name for piece in row.keys):
                return row, f"the model beside it has {name}"
    return None


def _by_words(path: Path, fitting: list[KLKind]) -> tuple[KLKind, str] | None:
    """The one row whose word is in the name; a file's own name counts before its folder's."""
    for text in (path.stem.lower(), path.parent.name.lower()):
        named = [(row, word) for row in fitting for word in row.words if word in text]
        if len({row.name for row, _ in named}) == 1:
            return named[0][0], f'its name has "{named[0][1]}"'
    return None
