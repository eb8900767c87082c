"""Full-size VAEs in weight files: what they are, and where one with a name lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models.autoencoder_kl import NORM_GROUPS
from taesd_ext.models.full_vae import PatchScale, Scale
from taesd_ext.weights.autoencoder_dc_files import find_dc_parts, find_layout
from taesd_ext.weights.autoencoder_kl_files import architecture_of, find_kl_parts, find_prefix
from taesd_ext.weights.dc_kind import dc_kind_of
from taesd_ext.weights.dc_rows import DC_BY_NAME, DC_VARIANTS
from taesd_ext.weights.folders import diffusers_files, first_good, search_folders
from taesd_ext.weights.full_part import FullPart
from taesd_ext.weights.listing import listing
from taesd_ext.weights.tensor_file import SUFFIXES, TensorFile, open_tensor_file
from taesd_ext.weights.vae_kind import kind_of, read_config
from taesd_ext.weights.vae_rows import KIND_BY_NAME, NAMED_VAES, VAE_BY_NAME

FULL_NAMES: tuple[str, ...] = tuple(row.name for row in (*NAMED_VAES, *DC_VARIANTS))
"""The full-size VAEs that have a name."""

_HOST_FOLDERS = ("models/VAE", "models/vae")
"""Where A1111 and ComfyUI keep full-size VAEs."""


@dataclass(frozen=True)
class FullVAE:
    """A full-size VAE in a weight file."""

    name: str
    latent_format: LatentFormat
    parts: dict[str, FullPart]
    reason: str
    """How its kind was told, in words for a person."""
    float16_overflows: bool = False


def find_full_vae(file: TensorFile, variant: str | None = None) -> FullVAE | None:
    """The full-size VAE in an opened file, None when there is none. ``variant`` is what the user says it is.

    Raises TaesdError when it does not fit its network, or when nothing tells which of several it is.
    """
    return _find_kl(file, variant) or _find_dc(file, variant)


def _find_kl(file: TensorFile, variant: str | None) -> FullVAE | None:
    found = find_prefix(file)
    if found is None:
        return None
    layout, prefix = found
    config = read_config(file.path)
    groups = config.get("norm_num_groups", NORM_GROUPS)
    sizes = [architecture_of(file, layout, prefix, part, NORM_GROUPS) for part in ("encoder", "decoder")]
    latent_channels = next((size.latent_channels for size in sizes if size), 0)
    kind = kind_of(file, prefix, latent_channels, config, variant)
    if kind.row.scaling_factor is None:
        scale = partial(PatchScale, latent_channels)
    else:
        scale = partial(Scale, kind.row.scaling_factor, kind.row.shift_factor)
    parts = find_kl_parts(file, scale, layout, prefix, groups if isinstance(groups, int) else NORM_GROUPS)
    return FullVAE(kind.name, kind.row.latent_format, parts, kind.reason, kind.float16_overflows)


def _find_dc(file: TensorFile, variant: str | None) -> FullVAE | None:
    found = find_layout(file)
    if found is None:
        return None
    layout, prefix = found
    kind = dc_kind_of(file, layout, prefix, read_config(file.path), variant)
    parts = find_dc_parts(file, kind.architecture, kind.scaling_factor, layout, prefix)
    return FullVAE(kind.name, kind.latent_format, parts, kind.reason)


def find_named_vae(name: str, models_dir: Path | str | Iterable[Path | str] | None = None) -> FullVAE:
    """The VAE of this name from the first good file in the search folders. Raises TaesdError."""

    def read(path: Path) -> FullVAE:
        found = find_full_vae(open_tensor_file(path), variant=name)
        if found is None:
            raise TaesdError(f"{path} holds no full-size VAE", "", f"Put the right {name} file in its place")
        return found

    folders = search_folders(models_dir, _HOST_FOLDERS)
    if found := first_good(vae_candidates(name, folders), read):
        return found
    raise TaesdError(
        f"No weights for {name}",
        f"looked for {' or '.join(_stems(name))} ({', '.join(SUFFIXES)}) or a diffusers folder {name} in: "
        f"{', '.join(map(str, folders)) or 'no folder of weights exists'}",
        "Put the file into models/VAE, or give its path",
    )


def installed_vaes(
    latent_format: LatentFormat, models_dir: Path | str | Iterable[Path | str] | None = None
) -> list[str]:
    """Names of the VAEs for these latents of which a file is there, unopened."""
    folders = search_folders(models_dir, _HOST_FOLDERS)
    formats = {row.name: KIND_BY_NAME[row.kind].latent_format for row in NAMED_VAES}
    formats |= {row.name: row.latent_format for row in DC_VARIANTS}
    fitting = [name for name, made_for in formats.items() if made_for == latent_format]
    return [name for name in fitting if next(vae_candidates(name, folders), None)]


def _stems(name: str) -> tuple[str, ...]:
    return (VAE_BY_NAME.get(name) or DC_BY_NAME[name]).stems


def vae_candidates(name: str, folders: Iterable[Path]) -> Iterator[Path]:
    """Existing files that may hold the VAE of this name, best first."""
    for folder in folders:
        found, stems = listing(folder), _stems(name)
        names = (f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
        yield from (found.files[name] for name in names if name in found.files)
        yield from (path for stem in stems if stem in found.folders for path in diffusers_files(found.folders[stem]))
