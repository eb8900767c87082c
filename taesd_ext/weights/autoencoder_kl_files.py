"""SD VAEs (AutoencoderKL) in weight files: the published layouts and their keys.

- original (ldm): "encoder.down.0.block.0.norm1.weight", alone or inside a whole checkpoint behind
  "first_stage_model." or "vae."; FLUX.2's has its quant convolutions below "encoder." and "decoder.";
- diffusers: "encoder.down_blocks.0.resnets.0.norm1.weight", with the attention's old names ("query") or new ("to_q").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.models import autoencoder_kl
from taesd_ext.models.full_vae import FullDecoder, GaussianEncoder
from taesd_ext.weights.full_part import FullPart, Keys
from taesd_ext.weights.tensor_file import TensorFile


@dataclass(frozen=True)
class KLArchitecture:
    """Everything that shapes an encoder's or a decoder's network."""

    latent_channels: int = 4
    widths: tuple[int, int, int, int] = autoencoder_kl.WIDTHS
    groups: int = autoencoder_kl.NORM_GROUPS
    quant_conv: bool = True

    def build(self, part: str) -> nn.Sequential:
        """The network on the meta device: no memory, and the global random state stays as it is."""
        network = autoencoder_kl.Encoder if part == "encoder" else autoencoder_kl.Decoder
        with torch.device("meta"):
            return network(self.latent_channels, self.widths, groups=self.groups, quant_conv=self.quant_conv)


@dataclass(frozen=True)
class Layout:
    """How one layout names the layers, in the order of the network's layers, and what lies in them."""

    name: str
    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    shortcut: str
    norm: str
    qkv: tuple[str, str, str]
    out: str
    encoder_quant: str = "quant_conv"
    decoder_quant: str = "post_quant_conv"

    @property
    def mark(self) -> str:
        """The end of a key that both halves of this layout have."""
        return f"{self.encoder[-5]}.conv1.weight"


def _encoder(block: str, down: str, middle: tuple[str, ...], norm: str) -> tuple[str, ...]:
    """From the picture's size to the latent's; the last size has nothing that halves it."""
    sizes = [name.format(size, n) for size in range(4) for name, n in ((block, 0), (block, 1), (down, 0))]
    return ("conv_in", *sizes[:-1], *middle, norm, "conv_out")


def _decoder(block: str, up: str, order: tuple[int, ...], middle: tuple[str, ...], norm: str) -> tuple[str, ...]:
    """From the latent's size to the picture's, which are numbered in this order."""
    sizes = [name.format(size, n) for size in order for name, n in ((block, 0), (block, 1), (block, 2), (up, 0))]
    return ("conv_in", *middle, *sizes[:-1], norm, "conv_out")


_LDM_MIDDLE = ("mid.block_1", "mid.attn_1", "mid.block_2")
_LDM = Layout(
    "original",
    encoder=_encoder("down.{}.block.{}", "down.{}.downsample.conv", _LDM_MIDDLE, "norm_out"),
    decoder=_decoder("up.{}.block.{}", "up.{}.upsample.conv", (3, 2, 1, 0), _LDM_MIDDLE, "norm_out"),
    shortcut="nin_shortcut", norm="norm", qkv=("q", "k", "v"), out="proj_out",
)  # fmt: skip
_FLUX2 = Layout(**{**vars(_LDM), "encoder_quant": "encoder.quant_conv", "decoder_quant": "decoder.post_quant_conv"})

_DIFFUSERS_MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
_DIFFUSERS = Layout(
    "diffusers",
    encoder=_encoder(
        "down_blocks.{}.resnets.{}", "down_blocks.{}.downsamplers.0.conv", _DIFFUSERS_MIDDLE, "conv_norm_out"
    ),
    decoder=_decoder(
        "up_blocks.{}.resnets.{}", "up_blocks.{}.upsamplers.0.conv", (0, 1, 2, 3), _DIFFUSERS_MIDDLE, "conv_norm_out"
    ),
    shortcut="conv_shortcut", norm="group_norm", qkv=("to_q", "to_k", "to_v"), out="to_out.0",
)  # fmt: skip
_OLD_DIFFUSERS = Layout(**{**vars(_DIFFUSERS), "qkv": ("query", "key", "value"), "out": "proj_attn"})

LAYOUTS = (_LDM, _FLUX2, _DIFFUSERS, _OLD_DIFFUSERS)


def network_keys(layout: Layout, part: str, architecture: KLArchitecture, prefix: str = "") -> Keys:
    """The network's key -> the file's. ``prefix`` is what stands before "encoder." and "decoder."."""
    names = [f"{prefix}{part}.{name}" for name in (layout.encoder if part == "encoder" else layout.decoder)]
    if architecture.quant_conv:
        encoder = part == "encoder"
        names = [*names, prefix + layout.encoder_quant] if encoder else [prefix + layout.decoder_quant, *names]
    keys: Keys = {}
    layers = ((key, layer) for key, layer in architecture.build(part).named_children() if layer.state_dict())
    for (key, layer), name in zip(layers, names, strict=True):
        for own in layer.state_dict():
            keys[f"{key}.{own}"] = tuple(f"{name}.{theirs}" for theirs in _inner(layer, own, layout))
    return keys


def _inner(layer: nn.Module, own: str, layout: Layout) -> tuple[str, ...]:
    """A layer's own key, "qkv.weight" -> the layout's, ("q.weight", "k.weight", "v.weight")."""
    where, _, kind = own.rpartition(".")
    if isinstance(layer, autoencoder_kl.Attention):
        theirs = {"norm": (layout.norm,), "qkv": layout.qkv, "out": (layout.out,)}[where]
        return tuple(f"{name}.{kind}" for name in theirs)
    return (f"{layout.shortcut}.{kind}" if where == "shortcut" else own,)


def find_prefix(file: TensorFile) -> tuple[Layout, str] | None:
    """The layout of an SD VAE in this file and what stands before its keys; None when there is none."""
    for layout in LAYOUTS:
        for part in ("decoder", "encoder"):
            tails = (f"{part}.{layout.mark}", f"{part}.{layout.encoder[-4]}.{layout.qkv[0]}.weight")
            for name in file.shapes:
                if not name.endswith(tails[0]):
                    continue
                prefix = name[: -len(tails[0])]
                if prefix + tails[1] in file.shapes and not _quant_elsewhere(file, layout, prefix):
                    return layout, prefix
    return None


def _quant_elsewhere(file: TensorFile, layout: Layout, prefix: str) -> bool:
    """Whether the quant convolutions lie where FLUX.2's do, and this is not FLUX.2's layout."""
    nested = any(
        f"{prefix}{name}.weight" in file.shapes for name in (_FLUX2.encoder_quant, _FLUX2.decoder_quant)
    )
    return nested != (layout is _FLUX2) and layout in (_LDM, _FLUX2)


def find_kl_parts(
    file: TensorFile, scale: Callable[[], nn.Module], layout: Layout, prefix: str, groups: int
) -> dict[str, FullPart]:
    """The encoder and the decoder, or one of them.

    Raises TaesdError when the tensors do not fit the network.
    """
    parts = {}
    for part in ("encoder", "decoder"):
        architecture = architecture_of(file, layout, prefix, part, groups)
        if architecture is None:
            if any(name.startswith(f"{prefix}{part}.") for name in file.shapes):
                raise TaesdError(
                    f"{file.path} does not fit the {layout.name} layout of an SD VAE",
                    f"its {part} lacks convolutions, or their shapes are impossible",
                    "Download the file again, or take it out of the folder",
                )
            continue
        try:
            if groups < 1:
                raise ValueError(f"norm_num_groups is {groups}")
            found = network_keys(layout, part, architecture, prefix)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            raise TaesdError(
                f"{file.path} is no SD VAE that can be built", one_line(error), "Download the file again"
            ) from error
        keys: Keys = {f"network.{own}": theirs for own, theirs in found.items()}
        if f"{prefix}bn.running_mean" in file.shapes:
            keys |= {f"scale.{name}": (f"{prefix}bn.{name}",) for name in ("running_mean", "running_var")}
        wrapper = GaussianEncoder if part == "encoder" else FullDecoder
        network = partial(_wrapped, wrapper, architecture, part, scale)
        parts[part] = FullPart(file, part, network, layout.name, keys).check([f"{prefix}{part}."])
    return parts


def _wrapped(wrapper: type, architecture: KLArchitecture, part: str, scale: Callable[[], nn.Module]) -> nn.Module:
    return wrapper(architecture.build(part), scale())


def architecture_of(
    file: TensorFile, layout: Layout, prefix: str, part: str, groups: int
) -> KLArchitecture | None:
    """The sizes of a half, by its tensors' shapes; None when the file lacks that half."""
    names = layout.encoder if part == "encoder" else layout.decoder
    firsts = [name for name in names if name.endswith((".block.0", ".resnets.0")) and not name.startswith("mid")]
    shapes = [file.shapes.get(f"{prefix}{part}.{name}.conv1.weight", ()) for name in firsts]
    end = file.shapes.get(f"{prefix}{part}.{'conv_out' if part == 'encoder' else 'conv_in'}.weight", ())
    if len(end) != 4 or any(len(shape) != 4 for shape in shapes):
        return None
    widths = tuple(shape[0] for shape in shapes)
    quant = layout.encoder_quant if part == "encoder" else layout.decoder_quant
    return KLArchitecture(
        latent_channels=end[0] // 2 if part == "encoder" else end[1],
        widths=widths if part == "encoder" else widths[::-1],
        groups=groups,
        quant_conv=f"{prefix}{quant}.weight" in file.shapes,
    )
