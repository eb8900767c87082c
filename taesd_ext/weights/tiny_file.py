"""The tiny autoencoders in weight files, told by key names and tensor shapes, never by the file's name.

Layouts found in the wild, all read into the networks' own keys:

- original: one part a file, "1.weight", "3.conv.0.weight" (``.pth`` or ``.safetensors``);
- combined: both parts in one file behind prefixes, "taesd_encoder.", "taesd_decoder.", "encoder.", ...; TAEHV's files;
- diffusers AutoencoderTiny: "encoder.layers.N", "decoder.layers.N", which count without a clamp or fold in front.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError, UnusableWeights
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models import tiny, tiny_video
from taesd_ext.models.computing import computing
from taesd_ext.models.state_shapes import Arguments, Shapes
from taesd_ext.models.tiny import TinyNetwork
from taesd_ext.weights.tensor_file import TensorFile, open_tensor_file

PARTS = ("encoder", "decoder")

NETWORKS: tuple[type[TinyNetwork], ...] = (*tiny.NETWORKS, *tiny_video.NETWORKS)

_NUMBERED = re.compile(r"^(?P<prefix>(?:.*?\.)??)(?P<index>\d{1,3})\.(?P<rest>.+)$")


class UnknownStructure(UnusableWeights):
    """A sound file of a network that is like one of ours, and none of them."""


@dataclass(frozen=True)
class TinyPart:
    """An encoder or a decoder inside a weight file."""

    file: TensorFile
    network_class: type[TinyNetwork]
    arguments: Arguments
    keys: dict[str, str]
    """The network's key -> the file's."""

    @property
    def part(self) -> str:
        return self.network_class.part

    @cached_property
    def network(self) -> TinyNetwork:
        """The network on the meta device: no memory, and the global random state stays as it is."""
        with torch.device("meta"):
            return self.network_class(**self.arguments)

    def build(self, latent_format: LatentFormat | None = None) -> TinyNetwork:
        """The network with its weights: float32, on the CPU, frozen, in evaluation mode.

        ``latent_format`` says how a video's frames lie in chunks, where they do.
        """
        loaded = self.file.load(list(self.keys.values()))
        state = {key: loaded[name].to(torch.float32, copy=True) for key, name in self.keys.items()}
        with torch.device("meta"):
            network = self.network_class(**self.arguments)
        if network.frames and latent_format:
            network.chunk, network.whole_if_even = latent_format.chunk, latent_format.whole_if_even
        return build_frozen(network, state)


def build_frozen(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A meta-device network takes over these tensors as its weights, for good."""
    # Forge decodes previews in inference mode; a tensor made there could never be used outside it again.
    with computing():
        state = {key: value.clone() if value.is_inference() else value for key, value in state.items()}
        network.load_state_dict(state, strict=True, assign=True)
        return network.requires_grad_(False).eval()


def fits(network: TinyNetwork, latent_format: LatentFormat) -> bool:
    """Whether a network of this shape can be of the format's family."""
    return (network.latent_channels, network.spatial_scale_factor, network.frames) == (
        latent_format.latent_channels,
        latent_format.spatial_scale_factor,
        latent_format.frames,
    )


def network_of(latent_format: LatentFormat, part: str) -> TinyNetwork:
    """The network of a format's family, on the meta device."""
    channels, factor, index = latent_format.latent_channels, latent_format.spatial_scale_factor, PARTS.index(part)
    with torch.device("meta"):
        if latent_format.frames:
            counts, patch = latent_format.splits, factor // 2 ** len(latent_format.splits)
            if part == "encoder":
                return tiny_video.VideoEncoder(channels, counts[::-1], patch)
            return tiny_video.VideoDecoder(channels, splits=counts, patch=patch)
        network_class = _BY_FACTOR[factor][index]
        norm = {"midblock_norm": True} if latent_format.midblock_norm else {}
        return network_class(channels, **norm)


_BY_FACTOR: dict[int, tuple[type[TinyNetwork], type[TinyNetwork]]] = {
    8: (tiny.Encoder, tiny.Decoder),
    16: (tiny.F16Encoder, tiny.F16Decoder),
    32: (tiny.F32Encoder, tiny.F32Decoder),
}


def read_tiny(path: Path | str) -> dict[str, TinyPart]:
    """The tiny encoder and decoder, or one of them, in a weight file.

    Raises TaesdError when the file is unreadable, holds something else, or does not fit the network it resembles.
    """
    file = open_tensor_file(path)
    parts = find_tiny_parts(file)
    if not parts:
        raise TaesdError(
            f"{file.path} holds no tiny autoencoder",
            f"none of its {len(file.shapes)} tensors is named and shaped like one of TAESD's",
            "Use a file such as taesd_decoder.safetensors or taesd_decoder.pth",
        )
    return parts


def find_tiny_parts(file: TensorFile) -> dict[str, TinyPart]:
    """The parts in an opened file; empty when it resembles no tiny autoencoder. Raises UnknownStructure."""
    parts: dict[str, TinyPart] = {}
    for names in _by_prefix(file):
        if found := _recognise(file, names):
            parts.setdefault(found.part, found)
    return {part: parts[part] for part in PARTS if part in parts}


def _by_prefix(file: TensorFile) -> Iterable[dict[tuple[int, str], str]]:
    """For each prefix of keys: index of the layer, rest of the key -> the file's key."""
    groups: dict[str, dict[tuple[int, str], str]] = {}
    for name in file.shapes:
        if match := _NUMBERED.match(name):
            groups.setdefault(match["prefix"], {})[int(match["index"]), match["rest"]] = name
    return groups.values()


def _recognise(file: TensorFile, names: dict[tuple[int, str], str]) -> TinyPart | None:
    misfit: UnknownStructure | None = None
    # diffusers leaves out what has no weights at the front (a clamp, a fold), so that every index is one less.
    for shift in (0, 1):
        keys = {f"{index + shift}.{rest}": name for (index, rest), name in names.items()}
        shapes = {key: file.shapes[name] for key, name in keys.items()}
        for network_class in NETWORKS:
            arguments = network_class.arguments_of(shapes)
            if arguments is None:
                continue
            found = TinyPart(file, network_class, arguments, keys)
            error = _misfit(found, shapes)
            if error is None:
                return found
            misfit = misfit or error
    if misfit:
        raise misfit
    return None


def _misfit(found: TinyPart, shapes: Shapes) -> UnknownStructure | None:
    """Why the tensors are not those of the network; None where they are."""
    try:
        expected = {key: tuple(value.shape) for key, value in found.network.state_dict().items()}
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        return UnknownStructure(f"{found.file.path} cannot be built as a tiny {found.part}", "its sizes do not fit")
    if shapes == expected:
        return None
    key = next(key for key in sorted(expected.keys() | shapes.keys()) if shapes.get(key) != expected.get(key))
    return UnknownStructure(
        f"{found.file.path} does not fit the {found.network.kind} tiny {found.part}",
        f"at {key} it has {shapes.get(key, 'nothing')} where {expected.get(key, 'nothing')} was expected",
        "It is of a kind that this version cannot use, or was truncated",
    )
