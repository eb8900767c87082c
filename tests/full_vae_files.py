"""Full-size VAEs written under the keys of a published layout."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext.models import autoencoder_kl, consistency_decoder
from taesd_ext.models.autoencoder_dc import Down, FromLatent, ToLatent, Up
from taesd_ext.models.layers import Conv2d
from taesd_ext.weights.folders import DIFFUSERS_STEM
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.vae_file import find_full_vae
from taesd_ext.weights.vae_layouts import LAYOUTS, LDM, Layout

State = dict[str, Tensor]


def plain_vae(folder: Path) -> tuple[nn.Module, nn.Module]:
    """The encoder and the decoder of a diffusers folder, as they are before a codec places them."""
    parts = find_full_vae(open_tensor_file(folder / f"{DIFFUSERS_STEM}.safetensors")).parts
    return parts["encoder"].build(), parts["decoder"].build()


def in_layout(network: nn.Module, layout: Layout = LDM, prefix: str = "", *, nested_quant: bool = False) -> State:
    """A network's weights under the layout's keys; FLUX.2 nests the convolutions next to the latent in its halves."""
    last = max(int(key.partition(".")[0]) for key in network.state_dict())
    listed = layout.encoder if network.part == "encoder" else layout.decoder
    layers = [
        name
        for name in listed
        if name is None or not name.endswith("quant_conv") or name.startswith(f"{network.part}.") == nested_quant
    ]
    without = [name for name in layers if name is None or not name.endswith("quant_conv")]
    layers = layers if last == len(layers) - 1 else without
    theirs: dict[str, list[str]] = {}
    for piece, own in layout.pieces.items():
        where, _, position = own.partition(":")
        if len(theirs.setdefault(where, [])) == int(position or 0):
            theirs[where].append(piece)
    state = {}
    for key, value in network.state_dict().items():
        index, _, rest = key.partition(".")
        where, _, kind = rest.rpartition(".")
        names = theirs.get(where, [where]) if where else [""]
        for name, piece in zip(names, value.chunk(len(names)), strict=True):
            parts = (prefix + layers[int(index)], name, kind)
            state[".".join(filter(None, parts))] = piece.clone()
    return state


def vae_state(
    channels: int = 4,
    layout: Layout = LDM,
    prefix: str = "",
    *,
    parts: Iterable[str] = ("encoder", "decoder"),
    seed: int = 0,
) -> State:
    """A VAE as small as 32 groups allow, with the convolutions and the scale that such a VAE has."""
    generator = torch.Generator().manual_seed(seed)
    nested = channels == 32
    state = {f"{prefix}bn.{name}": torch.ones(128) for name in ("running_mean", "running_var") if nested}
    for part in parts:
        network = getattr(autoencoder_kl, part.capitalize())(channels, (32, 32, 32, 32), quant_conv=channels != 16)
        state |= in_layout(network, layout, prefix, nested_quant=nested)
    return {key: 0.1 * torch.randn(value.shape, generator=generator) if "bn." not in key else value
            for key, value in state.items()}  # fmt: skip


def write_vae(path: Path, channels: int = 4, layout: Layout = LDM, prefix: str = "", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(vae_state(channels, layout, prefix, **options), path)
    return path


def consistency_in_original_layout(folder: Path, times: str = "embed_time") -> State:
    """The decoder's weights of a Consistency Decoder's diffusers folder by OpenAI's names."""
    layout = next(one for one in LAYOUTS if one.name == "original" and one.models is consistency_decoder)
    state = {}
    for key, value in in_layout(plain_vae(folder)[1].network, layout).items():
        name, _, kind = key.rpartition(".")
        short = "b" if kind == "bias" else "g" if "gn" in name else "w"
        state[f"{name}.{short}" if name else f"{times}.weight"] = value
    return state


def dc_in_original_layout(folder: Path) -> State:
    """The weights of a DC-AE's diffusers folder under the original keys."""
    return {name: value for half in plain_vae(folder) for name, value in _dc_original(half.network).items()}


def _dc_original(network: nn.Module) -> State:
    inwards, layout = network.part == "encoder", next(one for one in LAYOUTS if one.models.__name__.endswith("_dc"))
    theirs = {own: piece for piece, own in reversed(layout.pieces.items()) if own}
    convs = [layer for layer in network if isinstance(layer, Conv2d)]
    skips = isinstance(convs[0 if inwards else -1], (Down, Up))
    stage, place = (int(skips), 0) if inwards else (len(convs) - 2 + skips, 0)
    state = {}
    for layer in network:
        if not (own := layer.state_dict()):
            continue
        if layer is convs[0] or layer is convs[-1]:
            name = f"{network.part}.project_{'in' if layer is convs[0] else 'out'}"
            name += "" if inwards or layer is convs[0] else ".op_list.2"
        elif "weight" in own and not isinstance(layer, Conv2d):
            name = "decoder.project_out.op_list.0"
        else:
            if isinstance(layer, Up):
                stage, place = stage - 1, 0
            name, place = f"{network.part}.stages.{stage}.op_list.{place}", place + 1
            if isinstance(layer, Down):
                stage, place = stage + 1, 0
        for key, value in own.items():
            where, _, kind = key.rpartition(".")
            piece = theirs[where] if where else _CONVS.get(type(layer), "conv" if isinstance(layer, Conv2d) else "")
            if isinstance(layer, (Down, Up)):
                shortcut = layer.group if isinstance(layer, Down) else layer.repeats
                piece = ("main.conv" if shortcut else "conv") + ("" if layer.stride == (2, 2) else ".conv")
            state[".".join(filter(None, (name, piece, kind)))] = value
    return state


_CONVS = {ToLatent: "main.op_list.0.conv", FromLatent: "main.conv"}
