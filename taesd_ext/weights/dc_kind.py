"""Which DC-AE a file holds: its structure from its tensors or its config.json, its variant from evidence.

Evidence, best first: the user, the config.json beside it, the file's checksum, words in its name. A structure with one
variant needs none; otherwise a file without evidence is refused rather than guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models.autoencoder_dc import ACTIVATIONS, HEAD_CHANNELS, Stage
from taesd_ext.weights.autoencoder_dc_files import DCArchitecture, network_keys
from taesd_ext.weights.dc_rows import DC_BY_NAME, DC_VARIANTS, DCVariant
from taesd_ext.weights.identify import identify
from taesd_ext.weights.tensor_file import TensorFile

_CLASS = "AutoencoderDC"
_SAME = 1e-6
# Bounds of what a config.json may ask for, several times what any published one does.
_MOST_STAGES, _MOST_BLOCKS, _WIDEST = 10, 64, 8192


@dataclass(frozen=True)
class DCKind:
    """The variant of a DC-AE's file, and how it was told, in words for a person."""

    name: str
    architecture: DCArchitecture
    scaling_factor: float
    latent_format: LatentFormat
    reason: str


def dc_kind_of(
    file: TensorFile, layout: str, prefix: str, config: dict[str, object], variant: str | None = None
) -> DCKind:
    """The kind of a DC-AE found at ``prefix`` in a file. ``variant`` is what the user says it is.

    Raises TaesdError when nothing tells, or when the user's word cannot be true.
    """
    if config.get("_class_name") == _CLASS:
        return _by_diffusers_config(file.path, config, variant)
    fitting = _fitting(file, layout, prefix)
    row, reason = _told(file, prefix, config, fitting, variant)
    return DCKind(row.name, row.architecture, row.scaling_factor, row.latent_format, reason)


def _fitting(file: TensorFile, layout: str, prefix: str) -> list[DCVariant]:
    """The variants whose tensors these may be; each structure is known by its first and its latent's layer."""
    fitting = [row for row in DC_VARIANTS if any(_resembles(file, row, part, layout, prefix) for part in _PARTS)]
    if not fitting:
        raise TaesdError(
            f"{file.path} is a DC-AE of an unknown structure",
            "its sizes are none of those published",
            "Keep it in a folder with diffusers' config.json",
        )
    return fitting


_PARTS = ("encoder", "decoder")


def _resembles(file: TensorFile, row: DCVariant, part: str, layout: str, prefix: str) -> bool:
    network = row.architecture.build(part)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    keys = [key for key in network_keys(layout, part, row.architecture, prefix).items() if key[0].endswith("weight")]
    return all(file.shapes.get(names[0]) == shapes[key] for key, names in (keys[0], keys[-1]))


def _told(
    file: TensorFile, prefix: str, config: dict[str, object], fitting: list[DCVariant], variant: str | None
) -> tuple[DCVariant, str]:
    if variant is not None:
        row = DC_BY_NAME.get(variant)
        if row not in fitting:
            raise TaesdError(
                f"{file.path} cannot be {variant}", "its tensors are of another structure", _may_be(fitting)
            )
        return row, f"told to be {variant}"
    # The original repositories' config.json has nothing but the model's name.
    named = DC_BY_NAME.get(str(config.get("model_name")))
    if named in fitting:
        return named, f"its config.json names {config['model_name']}"
    if len(fitting) == 1:
        return fitting[0], "no other DC-AE has its structure"
    official = None if prefix else identify(file.path, always_hash=True).official
    known = DC_BY_NAME.get(official.family) if official else None
    if known in fitting:
        return known, f"its checksum is that of {official}"
    for text in (file.path.stem.lower(), file.path.parent.name.lower()):
        rows = [row for row in fitting if any(word in text for word in row.words)]
        if len(rows) == 1:
            return rows[0], f'its name has "{rows[0].words[0]}"'
    raise TaesdError(
        f"{file.path} is one of {' or '.join(row.name for row in fitting)}",
        "they differ in nothing but their values, and its name, checksum and config.json do not tell",
        f"Say which (--variant or variant=): {' or '.join(row.name for row in fitting)}, or name its folder so",
    )


def _may_be(fitting: list[DCVariant]) -> str:
    return f"It may be {' or '.join(row.name for row in fitting)}"


def _by_diffusers_config(path: Path, config: dict[str, object], variant: str | None) -> DCKind:
    """diffusers' config.json says all: the structure, and the variant by its scaling factor."""
    try:
        architecture = architecture_from(config)
        factor = float(config.get("scaling_factor", 1.0))
        _try_out(architecture)
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, RuntimeError) as error:
        raise TaesdError(
            f"The config.json beside {path} describes no DC-AE",
            f"{type(error).__name__}: {error}",
            "Download the folder again",
        ) from error
    alike = [
        row
        for row in DC_VARIANTS
        if row.architecture.latent_channels == architecture.latent_channels
        and row.architecture.spatial_scale_factor == architecture.spatial_scale_factor
    ]
    if variant is not None:
        row = DC_BY_NAME.get(variant)
        if row not in alike:
            raise TaesdError(f"{path} cannot be {variant}", "its latents have another shape", _may_be(alike))
        return DCKind(row.name, architecture, row.scaling_factor, row.latent_format, f"told to be {variant}")
    reason = f"its config.json has scaling_factor {factor}"
    for row in alike:
        if abs(row.scaling_factor - factor) < _SAME:
            return DCKind(row.name, architecture, factor, row.latent_format, reason)
    shape = f"f{architecture.spatial_scale_factor}c{architecture.latent_channels}"
    own = LatentFormat(
        f"dc-ae-{shape}", f"DC-AE {shape}", None, architecture.latent_channels, architecture.spatial_scale_factor, ""
    )
    return DCKind(own.name, architecture, factor, own, reason)


def architecture_from(config: dict[str, object]) -> DCArchitecture:
    """The structure that a diffusers config.json describes; what it leaves out has diffusers' defaults.

    Raises KeyError, TypeError or ValueError for what is no such description.
    """
    return DCArchitecture(
        latent_channels=_number(config.get("latent_channels", 32), 1, _WIDEST),
        encoder=_stages(config, "encoder", (2, 2, 2, 3, 3, 3), norms="rms_norm", activations="silu"),
        decoder=_stages(
            config, "decoder", (3, 3, 3, 3, 3, 3),
            norms=config.get("decoder_norm_types", "rms_norm"), activations=config.get("decoder_act_fns", "silu"),
        ),
        strided=config.get("downsample_block_type", "pixel_unshuffle") != "pixel_unshuffle",
        interpolate=config.get("upsample_block_type", "pixel_shuffle") == "interpolate",
        head_channels=_number(config.get("attention_head_dim", HEAD_CHANNELS), 1, _WIDEST),
        encoder_shortcut=bool(config.get("encoder_out_shortcut", True)),
        decoder_shortcut=bool(config.get("decoder_in_shortcut", True)),
        last_activation=_one_of(config.get("decoder_conv_act_fn", "relu"), tuple(ACTIVATIONS)),
    )  # fmt: skip


def _try_out(architecture: DCArchitecture) -> None:
    """Run the networks on the meta device, which shows whether the sizes go together."""
    side = architecture.spatial_scale_factor
    architecture.build("encoder")(torch.empty(1, 3, side, side, device="meta"))
    architecture.build("decoder")(torch.empty(1, architecture.latent_channels, 1, 1, device="meta"))


def _stages(
    config: dict[str, object], part: str, blocks: tuple[int, ...], *, norms: object, activations: object
) -> tuple[Stage, ...]:
    widths = list(config.get(f"{part}_block_out_channels", (128, 256, 512, 512, 1024, 1024)))
    blocks = list(config.get(f"{part}_layers_per_block", blocks))
    scales = config.get(f"{part}_qkv_multiscales", ((), (), (), (5,), (5,), (5,)))
    if not 2 <= len(widths) <= _MOST_STAGES:
        raise ValueError(f"{part}_block_out_channels has {len(widths)} stages")
    kinds, norms, activations = (
        [value] * len(widths) if isinstance(value, str) else list(value)
        for value in (config.get(f"{part}_block_types", "ResBlock"), norms, activations)
    )
    return tuple(
        Stage(
            width=_number(width, 1, _WIDEST),
            blocks=_number(count, int(i > 0), _MOST_BLOCKS),
            attention=_one_of(kind, ("ResBlock", "EfficientViTBlock")) == "EfficientViTBlock",
            scales=tuple(_number(size, 1, 31) for size in around),
            norm=_one_of(norm, ("rms_norm", "batch_norm")),
            activation=_one_of(activation, tuple(ACTIVATIONS)),
        )
        for i, (width, count, kind, around, norm, activation) in enumerate(
            zip(widths, blocks, kinds, scales, norms, activations, strict=True)
        )
    )


def _number(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r} is no number from {least} to {most}")
    return value


def _one_of(value: object, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value
