"""The full-size VAE in a weight file: its networks, told by its tensors."""

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models import autoencoder_dc, autoencoder_kl
from taesd_ext.models.autoencoder_wan import last_step
from taesd_ext.models.full_vae import FullDecoder, FullEncoder, GaussianEncoder, LatentScale, PatchScale
from taesd_ext.models.layers import BORDERS
from taesd_ext.models.state_shapes import Arguments, Shapes
from taesd_ext.weights.borders import remembered_borders
from taesd_ext.weights.folders import DIFFUSERS_STEM, weight_files
from taesd_ext.weights.tensor_file import TensorFile, open_tensor_file
from taesd_ext.weights.tiny_file import PARTS, UnknownStructure, build_frozen
from taesd_ext.weights.vae_layouts import LAYOUTS, UNKNOWN, Keys, Layout
from taesd_ext.weights.vae_table import kind_of

# A config.json of a VAE has 1 kB; nothing larger is read.
_LARGEST_CONFIG = 2**16
_STRANGE = "It is of a kind that this version cannot use, or was truncated"


@dataclass(frozen=True)
class FullPart:
    """An encoder or a decoder of a full-size VAE inside a weight file."""

    file: TensorFile
    network: nn.Module
    """On the meta device: no memory, and the global random state stays as it is."""
    keys: Keys
    scale: LatentScale

    def build(self) -> nn.Module:
        """The module with its weights, in the codec's ranges: in float32, on the CPU, frozen, in evaluation mode."""
        shapes = {key: value.shape for key, value in self.network.state_dict().items()}
        loaded = self.file.load([name for names in self.keys.values() for name in names])
        state = {key: _joined([loaded.pop(name) for name in self.keys[key]], shapes[key]) for key in self.keys}
        moments = getattr(self.network, "moments", False)
        wrapper = FullDecoder if self.network.part == "decoder" else GaussianEncoder if moments else FullEncoder
        return wrapper(build_frozen(self.network, state), self.scale).eval()


@dataclass(frozen=True)
class FullVAE:
    """A full-size VAE in a weight file."""

    name: str
    latent_format: LatentFormat
    parts: dict[str, FullPart]
    reason: str
    """How its kind was told, in words for a person."""
    float16_overflows: bool = False
    borders: str = "zeros"
    """What its convolutions see beyond the picture's borders: one of models/layers.py's BORDERS."""
    cost: str = ""
    """What a person should know of its time and memory before it starts."""


def find_layout(file: TensorFile) -> tuple[Layout, str] | None:
    """The layout of a full-size VAE in this file and what stands before its keys; None when there is none."""
    for layout in LAYOUTS:
        if (prefix := layout.find(file.shapes)) is not None:
            return layout, prefix
    return None


def find_full_vae(file: TensorFile, variant: str | None = None) -> FullVAE | None:
    """The full-size VAE in an opened file, None when there is none. ``variant`` is what the user says it is.

    Raises TaesdError when it does not fit its network, or when nothing tells which of several it is.
    """
    found = find_layout(file)
    if found is None:
        return None
    layout, prefix = found
    config = read_config(file.path)
    networks = find_networks(file, layout, prefix, config)
    if not networks:
        return None
    network, _ = next(iter(networks.values()))
    row, reason = kind_of(file, prefix, network, config, variant)
    scale, found_in = _scale(file, prefix, row.latent_format)
    if found_in != file.path:
        reason += f"; the scale of its latents is that of {found_in.name}"
    told = remembered_borders(file.path) or file.metadata.get("padding_mode", config.get("padding_mode"))
    borders = told if told in BORDERS else "zeros"
    parts = {part: FullPart(file, network, keys, scale) for part, (network, keys) in networks.items()}
    return FullVAE(row.name, row.latent_format, parts, reason, row.float16_overflows, borders, row.cost)


def _scale(file: TensorFile, prefix: str, latent_format: LatentFormat) -> tuple[LatentScale, Path]:
    """The scale of a VAE's latents, and the file that has it: for FLUX.2's decoder alone, another one beside it."""
    if latent_format.packed == 1:
        return latent_format, file.path
    scale = PatchScale(latent_format.latent_channels)
    shapes = {key: tuple(value.shape) for key, value in scale.state_dict().items()}
    for path in (file.path, *weight_files([file.path.parent, file.path.parent.parent])):
        with suppress(TaesdError):
            other = file if path == file.path else open_tensor_file(path)
            names = {key: f"{prefix if other is file else ''}bn.{key}" for key in shapes}
            if {key: other.shapes.get(name) for key, name in names.items()} == shapes:
                loaded = other.load(list(names.values()))
                return build_frozen(scale, {key: loaded[name].float() for key, name in names.items()}), path
    raise UnknownStructure(
        f"{file.path} is a FLUX.2 decoder without the scale of its latents",
        "the means and variances of FLUX.2's VAE (bn.running_mean, bn.running_var) are in the whole file only",
        "Put FLUX.2's whole VAE beside it, or use full_encoder_small_decoder.safetensors instead",
    )


def find_networks(
    file: TensorFile, layout: Layout, prefix: str, config: dict[str, Any]
) -> dict[str, tuple[nn.Module, Keys]]:
    """The networks on the meta device and their keys in the file; empty where they are of no known structure.

    Raises TaesdError where one half is sound and the other is not, or a tensor is not as the network needs it.
    """
    found: dict[str, tuple[nn.Module, Keys]] = {}
    strange: list[str] = []
    for part in PARTS:
        keys = layout.keys(part, file.shapes, prefix)
        if not any(not key.startswith(UNKNOWN) for key in keys):
            continue
        shapes = {key: _shape(file.shapes, names) for key, names in keys.items() if not key.startswith(UNKNOWN)}
        network_class = getattr(layout.models, part.capitalize())
        arguments = network_class.arguments_of(shapes)
        if arguments is None:
            strange.append(part)
            continue
        try:
            options = _options(layout, part, config, arguments)
            with torch.device("meta"):
                network = network_class(**arguments, **options)
        except (ValueError, ArithmeticError, RuntimeError, TypeError) as error:
            raise UnknownStructure(f"{file.path} is no VAE that can be built", one_line(error), _STRANGE) from error
        _check(file, network, keys, f"the {layout.name} layout of this VAE's {part}")
        found[part] = network, keys
    if found and strange:
        raise UnknownStructure(
            f"{file.path} does not fit the {layout.name} layout of a VAE",
            f"its {strange[0]} lacks convolutions, or their shapes are impossible", _STRANGE,
        )  # fmt: skip
    return found


def _shape(shapes: Shapes, names: tuple[str, ...]) -> tuple[int, ...]:
    """The shape of what these tensors make together; of a kernel over time, without the time."""
    first, *others = (shapes[name] for name in names)
    first = (*first[:2], *first[3:]) if len(first) == 5 else first
    return (first[0] + sum(shape[0] for shape in others if shape), *first[1:]) if others and first else first


def _check(file: TensorFile, network: nn.Module, keys: Keys, what: str) -> None:
    """Raises UnknownStructure naming the first tensor that the network needs otherwise, or not at all."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key in sorted(expected.keys() | keys.keys()):
        names = keys.get(key, ())
        shapes = [file.shapes[name] for name in names]
        if key not in expected or not _fit(shapes, expected[key]):
            layer = key.partition(".")[0] + "."
            beside = next((f"beside {other[0]}" for own, other in keys.items() if own.startswith(layer)), key)
            raise UnknownStructure(
                f"{file.path} does not fit {what}",
                f"at {', '.join(names) or beside} it has {', '.join(map(str, shapes)) or 'nothing'} where "
                f"{expected.get(key, 'nothing')} was expected",
                _STRANGE,
            )


def _fit(found: list[tuple[int, ...]], expected: tuple[int, ...]) -> bool:
    """Whether these tensors, laid one after the other, have this shape; a linear layer is a 1x1 convolution."""
    wanted = _trimmed(expected)
    trimmed = [_trimmed((*shape[:2], *shape[3:]) if len(shape) == 5 else shape) for shape in found]
    return all(shape[1:] == wanted[1:] for shape in trimmed) and sum(shape[0] for shape in trimmed) == wanted[0]


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the ones at its end, at least one number."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape or (1,)


def _joined(tensors: list[Tensor], shape: torch.Size) -> Tensor:
    """In float32; each piece is cast on its own way into the whole: one copy in all, and none of a piece."""
    if not tensors[0].is_floating_point():
        return tensors[0].reshape(shape)
    whole = torch.empty(math.prod(shape), dtype=torch.float32)
    start = 0
    for tensor in map(last_step, tensors):
        whole[start : start + tensor.numel()] = tensor.flatten()
        start += tensor.numel()
    return whole.reshape(shape)


def read_config(path: Path) -> dict[str, Any]:
    """What the diffusers config.json beside a weight file tells; empty when there is none or it is broken."""
    config = path.parent / "config.json"
    if not path.name.startswith((DIFFUSERS_STEM, "model.")):
        return {}
    try:
        if config.stat().st_size > _LARGEST_CONFIG:
            return {}
        loaded = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _options(layout: Layout, part: str, config: dict[str, Any], arguments: Arguments) -> Arguments:
    """What a config.json alone tells of a network. Raises ValueError for what cannot be."""
    if layout.models is autoencoder_kl and isinstance(groups := config.get("norm_num_groups"), int):
        if groups < 1:
            raise ValueError(f"norm_num_groups is {groups}")
        return {"groups": groups}
    if layout.models is autoencoder_dc and part == "decoder":
        usual = {"encoder_out_shortcut": True, "decoder_in_shortcut": True, "decoder_conv_act_fn": "relu"}
        activations = config.get("decoder_act_fns")
        if isinstance(activations, list) and len(activations) == len(arguments["stages"]):
            usual["decoder_act_fns"] = [
                stage.activation if stage.blocks else given
                for stage, given in zip(arguments["stages"], activations, strict=True)
            ]
        for key, value in usual.items():
            if config.get(key, value) != value:
                raise ValueError(f"no published DC-AE has the {key} of its config.json")
    return {}
