"""The full-size VAEs in weight files: how the published layouts name the tensors of the networks.

- SD's (AutoencoderKL): the original (ldm), "encoder.down.0.block.0.norm1.weight", alone or inside a checkpoint; of
  FLUX.2 also a decoder alone, without "decoder."; diffusers', "encoder.down_blocks.0.resnets.0.norm1.weight";
- Wan's and Qwen Image's: the original, "encoder.downsamples.0.residual.0.gamma", which ComfyUI has too; diffusers';
- the Consistency Decoder: the original, "blocks.down_0_conv_0.f_1.w"; diffusers', beside SD's encoder;
- DC-AE: the original, "encoder.stages.3.op_list.0.context_module.main.qkv.conv.weight"; diffusers'.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from taesd_ext.models import autoencoder_dc, autoencoder_kl, autoencoder_wan, consistency_decoder

Layers = tuple[str | None, ...]
"""What stands before the keys of each layer, in the network's order; None for one without weights."""

Keys = dict[str, tuple[str, ...]]
"""The network's key -> the file's: several are laid one after the other (query, key, value -> qkv)."""

UNKNOWN = "?"
"""What the network's key begins with where a file has more than the layout knows."""

_KINDS = {"gamma": "weight", "w": "weight", "g": "weight", "b": "bias"}

_IN_TIME = "time_conv"
"""Joins and splits frames: a still does not meet it."""


@dataclass(frozen=True)
class Layout:
    """How one layout names the layers, and the pieces in them."""

    name: str
    models: ModuleType
    """The networks' own module."""
    mark: str
    """The key below "encoder." and "decoder." that a file of this layout is known by, as a regular expression."""
    pieces: dict[str, str]
    """A layer's piece, as the layout calls it -> as the network does. "qkv:1" is the second third of "qkv"."""
    encoder: Layers = ()
    decoder: Layers = ()
    before_mark: str = r"(.*?)(?:encoder|decoder)\."

    def find(self, names: Iterable[str]) -> str | None:
        """What stands before "encoder." and "decoder." in a file of this layout; None where it is of another."""
        pattern = re.compile(self.before_mark + self.mark)
        return next((match[1] for match in map(pattern.fullmatch, names) if match), None)

    def layers(self, part: str, names: Iterable[str]) -> Layers:
        """The layers of a half, in a file with these keys. The convolutions next to the latent may lack."""
        present = {name.rpartition(".")[0] for name in names}
        listed = self.encoder if part == "encoder" else self.decoder
        return tuple(name for name in listed if name is None or not name.endswith("quant_conv") or name in present)

    def keys(self, part: str, names: Iterable[str], prefix: str) -> Keys:
        """The network's keys of a half -> the file's."""
        names = {name[len(prefix) :]: name for name in names if name.startswith(prefix)}
        places = {layer: index for index, layer in enumerate(self.layers(part, names)) if layer is not None}
        found: dict[str, list[tuple[int, str]]] = {}
        for short, name in names.items():
            layer, piece = _split(short, places)
            if piece.startswith(_IN_TIME):
                continue
            if layer is not None:
                where, _, kind = piece.rpartition(".")
                own, _, position = self.pieces.get(where, where).partition(":")
                key = ".".join(filter(None, (str(places[layer]), own, _KINDS.get(kind, kind))))
                found.setdefault(key, []).append((int(position or 0), name))
            elif short.startswith((f"{part}.", f"{part}_unet.")):
                found[f"{UNKNOWN}{short}"] = [(0, name)]
        return {key: tuple(name for _, name in sorted(pieces)) for key, pieces in found.items()}


class StagesLayout(Layout):
    """A layout whose stages have as many layers as a file has: DC-AE's."""

    def layers(self, part: str, names: Iterable[str]) -> Layers:
        start, *ends = super().layers(part, ())
        pattern = re.compile(rf"({part}\.(?:stages|down_blocks|up_blocks)\.(\d{{1,3}})\.(?:op_list\.)?(\d{{1,3}}))\..*")
        found = {(int(match[2]), int(match[3])): match[1] for match in map(pattern.fullmatch, names) if match}
        inwards = 1 if part == "encoder" else -1
        return (start, *(found[place] for place in sorted(found, key=lambda p: (inwards * p[0], p[1]))), *ends)


class ProgramLayout(Layout):
    """The Consistency Decoder's, whose first layer, the times, is named by whoever wrote the file."""

    def layers(self, part: str, names: Iterable[str]) -> Layers:
        times = next((name for name in names if re.fullmatch(r"(?:blocks\.)?embed_time\.(?:emb\.)?weight", name)), "")
        return tuple(times.removesuffix(".weight") if layer == "" else layer for layer in super().layers(part, names))


def _split(name: str, places: dict[str, int]) -> tuple[str | None, str]:
    """A key's layer and the rest; None and the key where it is of none of them."""
    layer = name
    while layer:
        layer = layer.rpartition(".")[0]
        if layer in places:
            return layer, name[len(layer) + 1 :]
    return None, name


def _of(part: str, layers: Iterable[str | None]) -> Layers:
    return tuple(layer and f"{part}.{layer}" for layer in layers)


def _sizes(order: Iterable[int], *layers: str | None) -> Layers:
    """The layers at each size but for the last ones of the last size, which change the size."""
    found = [layer and layer.format(size) for size in order for layer in layers]
    return tuple(found[:-1] if layers[-2] else found[:-2])


_INWARDS, _OUTWARDS = (0, 1, 2, 3), (3, 2, 1, 0)

_MIDDLE = ("mid.block_1", "mid.attn_1", "mid.block_2")
_LDM_DECODER = (
    "conv_in", *_MIDDLE,
    *_sizes(_OUTWARDS, "up.{}.block.0", "up.{}.block.1", "up.{}.block.2", None, "up.{}.upsample.conv"),
    "norm_out", None, "conv_out",
)  # fmt: skip
LDM = Layout(
    "original", autoencoder_kl, r"mid\.attn_1\.proj_out\.weight",
    {"nin_shortcut": "shortcut", "q": "qkv:0", "k": "qkv:1", "v": "qkv:2", "proj_out": "out"},
    encoder=(
        *_of("encoder", (
            "conv_in", *_sizes(_INWARDS, "down.{}.block.0", "down.{}.block.1", "down.{}.downsample.conv"),
            *_MIDDLE, "norm_out", None, "conv_out", "quant_conv",
        )),
        "quant_conv",
    ),
    decoder=("post_quant_conv", *_of("decoder", ("post_quant_conv", *_LDM_DECODER))),
)  # fmt: skip
_BARE = Layout(
    "bare", autoencoder_kl, LDM.mark, LDM.pieces, decoder=("post_quant_conv", *_LDM_DECODER), before_mark="()"
)

_MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
_RESNETS = tuple(f"up_blocks.{{}}.resnets.{i}" for i in range(3))
_DIFFUSERS = Layout(
    "diffusers", autoencoder_kl, r"mid_block\.attentions\.0\.(?:to_out\.0|proj_attn)\.weight",
    {
        "conv_shortcut": "shortcut", "group_norm": "norm", "to_q": "qkv:0", "to_k": "qkv:1", "to_v": "qkv:2",
        "to_out.0": "out", "query": "qkv:0", "key": "qkv:1", "value": "qkv:2", "proj_attn": "out",
    },
    encoder=(
        *_of("encoder", (
            "conv_in",
            *_sizes(
                _INWARDS, "down_blocks.{}.resnets.0", "down_blocks.{}.resnets.1", "down_blocks.{}.downsamplers.0.conv"
            ),
            *_MIDDLE, "conv_norm_out", None, "conv_out",
        )),
        "quant_conv",
    ),
    decoder=(
        "post_quant_conv",
        *_of("decoder", (
            "conv_in", *_MIDDLE, *_sizes(_INWARDS, *_RESNETS, None, "up_blocks.{}.upsamplers.0.conv"),
            "conv_norm_out", None, "conv_out",
        )),
    ),
)  # fmt: skip

_WAN_DIFFUSERS = Layout(
    "diffusers", autoencoder_wan, r"mid_block\.attentions\.0\.to_qkv\.weight",
    {"conv_shortcut": "shortcut", "resample.1": "", "to_qkv": "qkv", "proj": "out"},
    encoder=(
        *_of("encoder", (
            "conv_in", *(f"down_blocks.{i}" for i in range(11)), *_MIDDLE, "norm_out", None, "conv_out"
        )),
        "quant_conv",
    ),
    decoder=(
        "post_quant_conv",
        *_of("decoder", (
            "conv_in", *_MIDDLE, *_sizes(_INWARDS, *_RESNETS, None, "up_blocks.{}.upsamplers.0"),
            "norm_out", None, "conv_out",
        )),
    ),
)  # fmt: skip
_MIDDLE = ("middle.0", "middle.1", "middle.2")
_WAN = Layout(
    "original", autoencoder_wan, r"middle\.1\.to_qkv\.weight",
    {
        "residual.0": "norm1", "residual.2": "conv1", "residual.3": "norm2", "residual.6": "conv2",
        "resample.1": "", "to_qkv": "qkv", "proj": "out",
    },
    encoder=(
        *_of("encoder", ("conv1", *(f"downsamples.{i}" for i in range(11)), *_MIDDLE, "head.0", None, "head.2")),
        "conv1",
    ),
    decoder=(
        "conv2",
        *_of("decoder", (
            "conv1", *_MIDDLE,
            *(layer for i in range(15) for layer in ((None,) if i in (3, 7, 11) else ()) + (f"upsamples.{i}",)),
            "head.0", None, "head.2",
        )),
    ),
)  # fmt: skip

_DC = StagesLayout(
    "original", autoencoder_dc, r"stages\.\d+\.op_list\.\d+\.local_module\.main\.inverted_conv\.conv\.weight",
    {
        "main.conv1.conv": "conv1", "main.conv2.conv": "conv2", "main.conv2.norm": "norm",
        "context_module.main.qkv.conv": "attention.qkv", "context_module.main.proj.conv": "attention.out",
        "context_module.main.proj.norm": "attention.norm",
        "local_module.main.inverted_conv.conv": "mlp.inverted", "local_module.main.depth_conv.conv": "mlp.depth",
        "local_module.main.point_conv.conv": "mlp.point", "local_module.main.point_conv.norm": "mlp.norm",
        # A layer with a shortcut keeps its convolution in "main", the encoder's last one in a list too.
        **dict.fromkeys(("main.op_list.0.conv", "main.conv.conv", "main.conv", "conv.conv", "conv"), ""),
        **{f"context_module.main.aggreg.{i}.{j}": f"attention.scales.{i}.{j}" for i in range(4) for j in range(2)},
    },
    encoder=("encoder.project_in", "encoder.project_out"),
    decoder=("decoder.project_in", "decoder.project_out.op_list.0", None, "decoder.project_out.op_list.2"),
)  # fmt: skip
_DC_DIFFUSERS = StagesLayout(
    "diffusers", autoencoder_dc, r"(?:down|up)_blocks\.\d+\.\d+\.conv_out\.conv_inverted\.weight",
    {
        "conv": "", "attn.to_q": "attention.qkv:0", "attn.to_k": "attention.qkv:1", "attn.to_v": "attention.qkv:2",
        "attn.to_out": "attention.out", "attn.norm_out": "attention.norm",
        "conv_out.conv_inverted": "mlp.inverted", "conv_out.conv_depth": "mlp.depth",
        "conv_out.conv_point": "mlp.point", "conv_out.norm": "mlp.norm",
        **{
            f"attn.to_qkv_multiscale.{i}.{name}": f"attention.scales.{i}.{j}"
            for i in range(4) for j, name in enumerate(("proj_in", "proj_out"))
        },
    },
    encoder=("encoder.conv_in", "encoder.conv_out"),
    decoder=("decoder.conv_in", "decoder.norm_out", None, "decoder.conv_out"),
)  # fmt: skip

_CONSISTENCY_DIFFUSERS = Layout(
    "diffusers", consistency_decoder, r"decoder_unet\.time_proj\.weight",
    {**_DIFFUSERS.pieces, "time_emb_proj": "time"},
    encoder=_DIFFUSERS.encoder,
    decoder=_of("decoder_unet", (
        "time_proj", "time_embedding.linear_1", "time_embedding.linear_2", "conv_in",
        *_sizes(_INWARDS, *(f"down_blocks.{{}}.resnets.{i}" for i in range(3)), "down_blocks.{}.downsamplers.0"),
        "mid_block.resnets.0", "mid_block.resnets.1",
        *_sizes(_INWARDS, *(f"up_blocks.{{}}.resnets.{i}" for i in range(4)), "up_blocks.{}.upsamplers.0"),
        "conv_norm_out", None, "conv_out",
    )),
    before_mark="(.*?)",
)  # fmt: skip
_CONSISTENCY = ProgramLayout(
    "original", consistency_decoder, r"blocks\.down_0_conv_0\.f_t\.w",
    {"gn_1": "norm1", "f_1": "conv1", "f_t": "time", "gn_2": "norm2", "f_2": "conv2", "f_s": "shortcut"},
    decoder=("", *_of("blocks", (
        "embed_time.f_1", "embed_time.f_2", "embed_image.f",
        *_sizes(_INWARDS, *(f"down_{{}}_conv_{i}" for i in range(3)), "down_{}_downsamp"),
        "mid_0", "mid_1",
        *_sizes(_OUTWARDS, *(f"up_{{}}_conv_{i}" for i in range(4)), "up_{}_upsamp"),
        "output.gn", None, "output.f",
    ))),
    before_mark="(.*?)",
)  # fmt: skip

LAYOUTS = (_CONSISTENCY_DIFFUSERS, _CONSISTENCY, LDM, _BARE, _DIFFUSERS, _WAN_DIFFUSERS, _WAN, _DC, _DC_DIFFUSERS)
