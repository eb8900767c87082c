"""DC-AE (AutoencoderDC) in weight files: the published structures, layouts and their keys.

- original (mit-han-lab): "encoder.stages.3.op_list.0.context_module.main.qkv.conv.weight";
- diffusers: "encoder.down_blocks.3.0.attn.to_q.weight", with query, key and value apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from taesd_ext.models import autoencoder_dc
from taesd_ext.models.autoencoder_dc import Down, EfficientViTBlock, FromLatent, ResBlock, Stage, ToLatent, Up
from taesd_ext.models.full_vae import FullDecoder, FullEncoder, Scale
from taesd_ext.weights.full_part import FullPart, Keys
from taesd_ext.weights.tensor_file import TensorFile

ORIGINAL, DIFFUSERS = "original", "diffusers"


@dataclass(frozen=True)
class DCArchitecture:
    """Everything that shapes a DC-AE's networks. Stages are from the largest size to the smallest."""

    latent_channels: int
    encoder: tuple[Stage, ...]
    decoder: tuple[Stage, ...]
    strided: bool = False
    """Halve by strided convolutions; otherwise by folding squares into channels."""
    interpolate: bool = False
    """Double by repeating pixels; otherwise by unfolding channels into squares."""
    head_channels: int = autoencoder_dc.HEAD_CHANNELS
    encoder_shortcut: bool = True
    decoder_shortcut: bool = True
    last_activation: str = "relu"

    @property
    def spatial_scale_factor(self) -> int:
        return 2 ** (len(self.encoder) - 1)

    def build(self, part: str) -> nn.Sequential:
        """The network on the meta device: no memory, and the global random state stays as it is."""
        with torch.device("meta"):
            if part == "encoder":
                return autoencoder_dc.Encoder(
                    self.latent_channels, self.encoder, strided=self.strided,
                    head_channels=self.head_channels, shortcut=self.encoder_shortcut,
                )  # fmt: skip
            return autoencoder_dc.Decoder(
                self.latent_channels, self.decoder, interpolate=self.interpolate,
                head_channels=self.head_channels, shortcut=self.decoder_shortcut, activation=self.last_activation,
            )  # fmt: skip


def layer_names(architecture: DCArchitecture, part: str, layout: str) -> Iterator[str]:
    """What stands before the keys of each layer with weights, in the network's order."""
    stages = architecture.encoder if part == "encoder" else architecture.decoder
    folder = {"encoder": "down_blocks", "decoder": "up_blocks"}[part] if layout == DIFFUSERS else "stages"
    between = "." if layout == DIFFUSERS else ".op_list."
    stage = range(len(stages)) if part == "encoder" else range(len(stages) - 1, -1, -1)
    project_in, project_out = _ENDS[part, layout]
    yield project_in
    for i in stage:
        # A size that is skipped has no layers; the last one has no change of size.
        layers = stages[i].blocks + (i + 1 < len(stages)) if stages[i].blocks else 0
        yield from (f"{part}.{folder}.{i}{between}{j}" for j in range(layers))
    yield from project_out


_ENDS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("encoder", DIFFUSERS): ("encoder.conv_in", ("encoder.conv_out",)),
    ("encoder", ORIGINAL): ("encoder.project_in", ("encoder.project_out",)),
    ("decoder", DIFFUSERS): ("decoder.conv_in", ("decoder.norm_out", "decoder.conv_out")),
    ("decoder", ORIGINAL): (
        "decoder.project_in", ("decoder.project_out.op_list.0", "decoder.project_out.op_list.2"),
    ),
}  # fmt: skip

# A layer's own piece -> the layout's: what stands before "weight", "bias" or a norm's buffer.
_RES_BLOCK = {
    DIFFUSERS: {"conv1": "conv1", "conv2": "conv2", "norm": "norm"},
    ORIGINAL: {"conv1": "main.conv1.conv", "conv2": "main.conv2.conv", "norm": "main.conv2.norm"},
}
_EFFICIENT_VIT = {
    DIFFUSERS: {
        "attention.out": "attn.to_out", "attention.norm": "attn.norm_out",
        "mlp.inverted": "conv_out.conv_inverted", "mlp.depth": "conv_out.conv_depth",
        "mlp.point": "conv_out.conv_point", "mlp.norm": "conv_out.norm",
    },
    ORIGINAL: {
        "attention.qkv": "context_module.main.qkv.conv",
        "attention.out": "context_module.main.proj.conv", "attention.norm": "context_module.main.proj.norm",
        "mlp.inverted": "local_module.main.inverted_conv.conv", "mlp.depth": "local_module.main.depth_conv.conv",
        "mlp.point": "local_module.main.point_conv.conv", "mlp.norm": "local_module.main.point_conv.norm",
    },
}  # fmt: skip
_SCALES = {
    DIFFUSERS: ("attn.to_qkv_multiscale.{}.proj_in", "attn.to_qkv_multiscale.{}.proj_out"),
    ORIGINAL: ("context_module.main.aggreg.{}.0", "context_module.main.aggreg.{}.1"),
}


def network_keys(layout: str, part: str, architecture: DCArchitecture, prefix: str = "") -> Keys:
    """The network's key -> the file's. ``prefix`` is what stands before "encoder." and "decoder."."""
    keys: Keys = {}
    children = architecture.build(part).named_children()
    layers = [(key, layer) for key, layer in children if layer.state_dict()]
    for (key, layer), name in zip(layers, layer_names(architecture, part, layout), strict=True):
        for own in layer.state_dict():
            where, _, kind = own.rpartition(".")
            theirs = _inner(layer, where, layout)
            keys[f"{key}.{own}"] = tuple(".".join(filter(None, (prefix + name, piece, kind))) for piece in theirs)
    return keys


def _inner(layer: nn.Module, where: str, layout: str) -> Sequence[str]:
    """Where the layout keeps a piece of this layer."""
    if isinstance(layer, ResBlock):
        return (_RES_BLOCK[layout][where],)
    if isinstance(layer, EfficientViTBlock):
        if where.startswith("attention.scales."):
            _, _, scale, step = where.split(".")
            return (_SCALES[layout][int(step)].format(scale),)
        if where == "attention.qkv" and layout == DIFFUSERS:
            return ("attn.to_q", "attn.to_k", "attn.to_v")
        return (_EFFICIENT_VIT[layout][where],)
    if layout == DIFFUSERS:
        return ("conv" if isinstance(layer, (Down, Up)) else "",)
    # In the original a layer with a shortcut keeps its convolution in "main", the end of the encoder in a list too.
    main = "main." if getattr(layer, "group", 0) or getattr(layer, "repeats", 0) else ""
    if isinstance(layer, ToLatent):
        return (f"{main}op_list.0.conv",)
    if isinstance(layer, Up) or (isinstance(layer, Down) and not layer.strided):
        return (f"{main}conv.conv",)
    return (f"{main}conv" if isinstance(layer, (Down, FromLatent, nn.Conv2d)) else "",)


# The end of a key that every DC-AE has in this layout, in either half, and that nothing else has.
_MARKS = {ORIGINAL: ".local_module.main.inverted_conv.conv.weight", DIFFUSERS: ".conv_out.conv_inverted.weight"}
_HALF = re.compile(r"(encoder|decoder)\.(stages|down_blocks|up_blocks)\.")


def find_layout(file: TensorFile) -> tuple[str, str] | None:
    """The layout of a DC-AE in this file and what stands before its keys; None when there is none."""
    for layout, mark in _MARKS.items():
        for name in file.shapes:
            if name.endswith(mark) and (half := _HALF.search(name)):
                return layout, name[: half.start()]
    return None


def find_dc_parts(
    file: TensorFile, architecture: DCArchitecture, scaling_factor: float, layout: str, prefix: str
) -> dict[str, FullPart]:
    """The encoder and the decoder, or one of them.

    Raises TaesdError when the tensors do not fit the network.
    """
    parts = {}
    for part, wrapper in (("encoder", FullEncoder), ("decoder", FullDecoder)):
        if not any(name.startswith(f"{prefix}{part}.") for name in file.shapes):
            continue
        keys = {f"network.{own}": names for own, names in network_keys(layout, part, architecture, prefix).items()}
        network = partial(_wrapped, wrapper, architecture, part, scaling_factor)
        parts[part] = FullPart(file, part, network, layout, keys).check([f"{prefix}{part}."])
    return parts


def _wrapped(wrapper: type, architecture: DCArchitecture, part: str, scaling_factor: float) -> nn.Module:
    return wrapper(architecture.build(part), Scale(scaling_factor))
