"""From a family's name or a path to a Codec."""

from collections.abc import Iterable
from pathlib import Path

import torch

from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.codec.codec import Codec, Source
from taesd_ext.codec.embedded import EMBEDDED_SUFFIX, embedded_networks
from taesd_ext.codec.noise import seeded
from taesd_ext.codec.precision import DtypeChoice, resolve_dtype
from taesd_ext.errors import TaesdError, log, log_once
from taesd_ext.home import expanded
from taesd_ext.latent_formats import FAMILIES, LatentFormat, native_format
from taesd_ext.models.layers import pad_by
from taesd_ext.weights.folders import diffusers_files, given_folders, search_folders
from taesd_ext.weights.identify import identify
from taesd_ext.weights.installed import find_part, no_weights
from taesd_ext.weights.installed_vaes import find_named_vae
from taesd_ext.weights.tensor_file import TensorFile, open_tensor_file
from taesd_ext.weights.tiny_file import PARTS, TinyPart, find_tiny_parts
from taesd_ext.weights.vae_file import FullVAE, find_full_vae
from taesd_ext.weights.vae_table import FULL_NAMES

SEEN = 1 / 255
"""A step of a picture of 8 bits."""


def load_codec(
    family_or_path: str | Path,
    *,
    models_dir: Path | str | Iterable[Path | str] | None = None,
    device: str | torch.device = "cpu",
    dtype: DtypeChoice = None,
    variant: str | None = None,
    embedded: bool = True,
) -> Codec:
    """Load an autoencoder by its name ("taesd", "sd-vae-ft-mse", ...), or from a weight file or diffusers folder.

    A part without a file is the embedded one, if ``embedded`` and the family has one; else the codec does the other
    half only. "taesd-embedded" is the embedded codec in any case. ``dtype`` None is float32 and "auto" what the device
    does best, on a CPU found by its instruction sets. ``variant`` says what a file is that does not tell it itself
    ("sd15-vae", "sdxl-vae", ...).
    Raises TaesdError when nothing usable is found, and when ``models_dir`` is not there.
    """
    name, models_dir = str(family_or_path), given_folders(models_dir)
    if name in FULL_NAMES:
        return full_codec(find_named_vae(name, models_dir), device, dtype)
    family = name.removesuffix(EMBEDDED_SUFFIX)
    if family in FAMILIES:
        folders = search_folders(models_dir) if name == family else []
        parts = {part: found for part in PARTS if (found := find_part(family, part, folders))}
        latent_format = native_format(family)
        lacking = len(parts) < len(PARTS) and (embedded or name != family)
        small = embedded_networks(latent_format) if lacking else {}
        if not parts and not small:
            raise no_weights(family, folders)
    else:
        path = _weight_file(expanded(family_or_path))
        file = open_tensor_file(path)
        parts = find_tiny_parts(file)
        if not parts and (full := find_full_vae(file, variant)):
            return full_codec(full, device, dtype)
        if not parts:
            raise TaesdError(
                f"{path} holds no known autoencoder",
                f"none of its {len(file.shapes)} tensors is named and shaped like one of TAESD's or of a VAE's",
                "Use a file such as taesd_decoder.safetensors or vae-ft-mse-840000-ema-pruned.safetensors",
            )
        latent_format, small = _format_of(file, parts), {}
        family = latent_format.family
    networks = small | {part: found.build(latent_format) for part, found in parts.items()}
    files = {part: found.file.path for part, found in parts.items()}
    source = Source(**files, embedded=tuple(part for part in small if part not in parts))
    return Codec(family, latent_format, device=device, dtype=dtype, source=source, **networks)


def full_codec(found: FullVAE, device: str | torch.device = "cpu", dtype: DtypeChoice = None) -> Codec:
    """The Codec of a VAE that was found; big pictures go through it in blended tiles.

    A VAE whose activations pass float16's range runs in float32 where float16 was asked for, and one in which bfloat16
    would show runs in float32 where "auto" chose it. Either is said once.
    """
    chosen = resolve_dtype(dtype, device)
    if chosen == torch.float16 and found.float16_overflows:
        chosen = torch.float32
        log_once(f"no float16 for {found.name}", f"{found.name} overflows in float16: it runs in float32.")
    if found.cost:
        log_once(f"cost of {found.name}", f"{found.name} is slow: {found.cost}.")
    networks = {part: half.build() for part, half in found.parts.items()}
    for network in networks.values():
        pad_by(network, found.borders)
        scale = getattr(network, "image_scale", 1)
        tiler = BlendedTiler(found.latent_format.spatial_scale_factor, image_scale=scale)
        network.tiler = tiler.chosen(getattr(network.network, "tile", "auto"))
    source = Source(**{part: half.file.path for part, half in found.parts.items()}, reason=found.reason)
    log.info("[TAESD] %s is %s: %s.", source.decoder or source.encoder, found.name, found.reason)
    codec = Codec(found.name, found.latent_format, device=device, dtype=chosen, source=source, **networks)
    if dtype == "auto" and chosen == torch.bfloat16 and codec.has_decoder and _rounding(codec) > SEEN:
        log_once(f"no bfloat16 for {found.name}", f"{found.name} would show bfloat16's rounding: it runs in float32.")
        return codec.in_float32()
    return codec


def _rounding(codec: Codec) -> float:
    """Root mean square of how far a decode of its type is from one in float32, for a small random latent."""
    side = max(2, 48 // codec.spatial_scale_factor)
    shape = (1, codec.latent_channels, side, side)
    latent = torch.randn(shape, generator=seeded(0), dtype=torch.float32)
    return float((codec.decode(latent) - codec.in_float32().decode(latent)).square().mean().sqrt())


def _weight_file(path: Path) -> Path:
    """The file itself, or the one in a diffusers folder."""
    if path.is_dir():
        files = diffusers_files(path)
        if not files:
            raise TaesdError(
                f"{path} is not a diffusers folder",
                "it lacks config.json or diffusion_pytorch_model.safetensors",
                f"Give a weight file, or one of the families {', '.join(FAMILIES)}",
            )
        return files[0]
    if not path.exists():
        names = ", ".join((*FAMILIES, *FULL_NAMES))
        raise TaesdError(f"{path} does not exist", "and it is not the name of a family", f"The families are {names}")
    return path


def _format_of(file: TensorFile, parts: dict[str, TinyPart]) -> LatentFormat:
    found = identify(file.path)
    if not found.families:
        raise TaesdError(
            f"{file.path} is a {next(iter(parts.values())).network.kind} tiny autoencoder",
            "no known model has such latents",
            f"The families are {', '.join(FAMILIES)}",
        )
    if found.is_guess:
        log_once(
            f"guessed {file.path}",
            f"{file.path} is either {found.family_words}: using it as {found.families[0]}. "
            f"If the colours are wrong, put the family into its name, as in {found.families[1]}_decoder.safetensors.",
        )
    return native_format(found.families[0])
