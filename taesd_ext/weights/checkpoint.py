"""Which autoencoder a weight file holds, told by its key names and tensor shapes, never by its name.

Layouts of the tiny autoencoders found in the wild, all read into the networks' own keys:

- original: one part a file, "1.weight", "3.conv.0.weight" (``.pth`` or ``.safetensors``);
- combined: both parts in one file behind prefixes, "taesd_encoder.", "taesd_decoder.", "encoder.", ...;
- diffusers AutoencoderTiny: "encoder.layers.N", "decoder.layers.N", which count without a clamp or fold in front.

TAEHV's files, for video models, are of the combined layout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import LatentFormat
from taesd_ext.models import tiny, tiny_video
from taesd_ext.weights.tensor_file import TensorFile, open_tensor_file

PARTS = ("encoder", "decoder")

_NUMBERED = re.compile(r"^(?P<prefix>.*?)(?P<index>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True)
class TinyArchitecture:
    """Everything that shapes a tiny autoencoder's networks."""

    latent_channels: int
    spatial_scale_factor: int = 8
    midblock_norm: bool = False
    frames: bool = False
    """Its blocks remember the frame before (TAEHV, for video models)."""
    image_channels: int = 3

    def build(self, part: str) -> nn.Sequential:
        """The network on the meta device: no memory, and the global random state stays as it is."""
        with torch.device("meta"):
            if self.frames:
                return (tiny_video.VideoEncoder if part == "encoder" else tiny_video.VideoDecoder)(self.latent_channels)
            if self.spatial_scale_factor == 32:
                return (tiny.F32Encoder if part == "encoder" else tiny.F32Decoder)(self.latent_channels)
            if self.spatial_scale_factor == 16:
                network = tiny.F16Encoder if part == "encoder" else tiny.F16Decoder
                return network(self.latent_channels, self.image_channels)
            network = tiny.Encoder if part == "encoder" else tiny.Decoder
            return network(self.latent_channels, midblock_norm=self.midblock_norm)

    def reads(self, latent_format: LatentFormat) -> bool:
        """Whether a network of this shape can be of the format's family."""
        return (self.latent_channels, self.spatial_scale_factor, self.frames) == (
            latent_format.latent_channels,
            latent_format.spatial_scale_factor,
            latent_format.frames,
        )

    def __str__(self) -> str:
        words = f"{self.latent_channels}-channel {self.spatial_scale_factor}x"
        if self.frames:
            words += " video"
        return f"{words} with mid-block norm" if self.midblock_norm else words


@dataclass(frozen=True)
class TinyPart:
    """An encoder or a decoder inside a weight file."""

    file: TensorFile
    part: str
    architecture: TinyArchitecture
    layout: str
    keys: dict[str, str]
    """The network's key -> the file's."""

    def build(self) -> nn.Sequential:
        """The network with its weights: float32, on the CPU, frozen, in evaluation mode."""
        loaded = self.file.load(list(self.keys.values()))
        state = {key: loaded[name].to(torch.float32, copy=True) for key, name in self.keys.items()}
        return build_frozen(self.architecture.build(self.part), state)


def build_frozen(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A meta-device network takes over these tensors as its weights, for good."""
    # Forge decodes previews in inference mode; a tensor made there could never be used outside it again.
    with torch.inference_mode(False), torch.no_grad():
        state = {key: value.clone() if value.is_inference() else value for key, value in state.items()}
        network.load_state_dict(state, strict=True, assign=True)
        return network.requires_grad_(False).eval()


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
    """The parts in an opened file; empty when it resembles no tiny autoencoder."""
    parts: dict[str, TinyPart] = {}
    for prefix, numbered in _by_prefix(file).items():
        found = _recognise(file, prefix, numbered)
        if found:
            parts.setdefault(found.part, found)
    return parts


def _by_prefix(file: TensorFile) -> dict[str, dict[tuple[int, str], str]]:
    """Prefix -> (index of the layer, rest of the key) -> the file's key."""
    groups: dict[str, dict[tuple[int, str], str]] = {}
    for name in file.shapes:
        if match := _NUMBERED.match(name):
            index = match["index"]
            if len(index) <= 3:
                groups.setdefault(match["prefix"], {})[int(index), match["rest"]] = name
    return groups


def _recognise(file: TensorFile, prefix: str, numbered: dict[tuple[int, str], str]) -> TinyPart | None:
    first = {
        index: file.shapes[numbered[index, "weight"]]
        for index in (0, 1)
        if (index, "weight") in numbered and len(file.shapes[numbered[index, "weight"]]) == 4
    }
    last = max(index for index, _ in numbered)
    out_shape = file.shapes.get(numbered.get((last, "weight"), ""), ())
    found = _architecture(first, out_shape, numbered)
    if found is None:
        return None
    part, shift, architecture = found
    keys = {f"{index + shift}.{rest}": name for (index, rest), name in numbered.items()}
    _check_shapes(file, part, architecture, keys)
    layout = "diffusers" if prefix.endswith("layers.") else "combined" if prefix else "original"
    return TinyPart(file, part, architecture, layout, keys)


def _architecture(
    first: dict[int, tuple[int, ...]], last: tuple[int, ...], numbered: dict[tuple[int, str], str]
) -> tuple[str, int, TinyArchitecture] | None:
    """Which part, by how much its indices are short, and the architecture, from its first and last convolutions."""
    shape = first.get(0, first.get(1))
    if shape is None or len(last) != 4 or shape[2:] != (3, 3):
        return None
    wide, channels = shape[:2]
    norm = any(rest.startswith("pool.") for _, rest in numbered)
    # Only TAEHV's joining and splitting of frames is one convolution called "conv".
    frames = any(rest == "conv.weight" for _, rest in numbered)
    if shape in ((64, 3, 3, 3), (32, 3, 3, 3)):
        return "encoder", 0, TinyArchitecture(last[0], 32 if wide == 32 else 8, norm, frames)
    # diffusers leaves out what has no weights at the front (a clamp, a fold), so that every index is one less.
    shift = 1 if 0 in first else 0
    if last[0] == 3:
        return "decoder", shift, TinyArchitecture(channels, 32 if wide == 256 and not frames else 8, norm, frames)
    if wide == 256 and last[0] in (12, 16):
        return "decoder", shift, TinyArchitecture(channels, 16, image_channels=last[0] // 4)
    if wide == 64 and channels in (12, 16) and last[1] == 256:
        return "encoder", shift, TinyArchitecture(last[0], 16, image_channels=channels // 4)
    return None


def _check_shapes(file: TensorFile, part: str, architecture: TinyArchitecture, keys: dict[str, str]) -> None:
    expected = {key: tuple(value.shape) for key, value in architecture.build(part).state_dict().items()}
    found = {key: file.shapes[name] for key, name in keys.items()}
    if found == expected:
        return
    key = next(key for key in sorted(expected.keys() | found.keys()) if found.get(key) != expected.get(key))
    raise TaesdError(
        f"{file.path} does not fit the {architecture} tiny {part}",
        f"at {key} it has {found.get(key, 'nothing')} where {expected.get(key, 'nothing')} was expected",
        "Download the file again, or take it out of the folder",
    )
