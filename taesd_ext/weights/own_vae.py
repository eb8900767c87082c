"""A full-size VAE into the folder from which a WebUI's own SD VAE setting takes its files. Never a tiny one."""

from __future__ import annotations

import re
from pathlib import Path

from taesd_ext.errors import TaesdError
from taesd_ext.weights.autoencoder_kl_files import LAYOUTS, architecture_of, find_prefix
from taesd_ext.weights.full_files import find_full_vae
from taesd_ext.weights.identify import identify
from taesd_ext.weights.store import copy_into
from taesd_ext.weights.tensor_file import SAFETENSORS_SUFFIXES, open_tensor_file
from taesd_ext.weights.vae_rows import KL_KINDS

_LARGEST = 2**30
"""Bytes. FLUX.1's VAE in float32 has 335 MB."""
_LONGEST_NAME = 100


def add_vae_file(source: Path | str, folder: Path | str) -> Path:
    """Check a user's own file and copy it into the folder; give its place there.

    A published VAE gets its published name, another one keeps its own, without odd characters. Raises TaesdError when
    the file holds no full-size VAE that a WebUI can load, or when its place is taken.
    """
    source, folder = Path(source), Path(folder)
    _check(source)
    official = identify(source, always_hash=True).official
    target = folder / (official.name if official else _own_name(source))
    if target.is_symlink() or target.exists():
        raise TaesdError(
            f"{source.name} was not taken", f"{target.name} is already in {folder}", "Remove that one first"
        )
    copy_into(source, target)
    return target


def _check(source: Path) -> None:
    try:
        file = open_tensor_file(source)
        size = source.stat().st_size
    except OSError as error:
        raise TaesdError(f"{source.name} was not taken", error.strerror or "it cannot be read") from error
    found = find_prefix(file)
    if found is None or size > _LARGEST:
        raise TaesdError(
            f"{source.name} was not taken",
            "it is too large for a VAE alone" if found else "it holds no full-size VAE",
            "Use a file such as vae-ft-mse-840000-ema-pruned.safetensors",
        )
    layout, prefix = found
    if layout is not LAYOUTS[0] or prefix:
        raise TaesdError(
            f"{source.name} was not taken",
            "the WebUI loads VAEs in the original layout only, with keys such as decoder.conv_in.weight",
            "It can be chosen as VAE for the final image all the same",
        )
    # Whose latents it makes does not matter here: SD1's and SDXL's VAEs have one structure.
    decoder = architecture_of(file, layout, prefix, "decoder", 1)
    variant = next((row.name for row in KL_KINDS if decoder and row.latent_channels == decoder.latent_channels), None)
    found_vae = find_full_vae(file, variant)
    if found_vae is None or len(found_vae.parts) < 2:
        raise TaesdError(f"{source.name} was not taken", "it lacks the encoder or the decoder")


def _own_name(source: Path) -> str:
    stem = re.sub(r"[^\w .()+-]", "_", source.stem).strip(" .")[:_LONGEST_NAME] or "vae"
    # The suffixes that A1111 lists.
    return f"{stem}{'.safetensors' if source.suffix.lower() in SAFETENSORS_SUFFIXES else '.ckpt'}"
