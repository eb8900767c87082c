"""Every layout of a tiny autoencoder's weights is read to the bit, and gives what diffusers' AutoencoderTiny gives."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from random_weights import random_weights
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext import load_codec
from taesd_ext.codec.picture_file import read_picture
from taesd_ext.models import tiny
from taesd_ext.weights.tiny_file import PARTS, read_tiny

diffusers = pytest.importorskip("diffusers")

TOLERANCE = 1e-5

State = dict[str, Tensor]
States = dict[str, State]
"""Part -> its weights in the original layout."""


def in_diffusers(states: States) -> nn.Module:
    """The reference: diffusers' own network with these weights, whose decoder counts without the clamp."""
    channels = states["decoder"]["1.weight"].shape[1]
    reference = diffusers.AutoencoderTiny(latent_channels=channels).eval().requires_grad_(False)
    renamed = {f"encoder.layers.{key}": value.float() for key, value in states["encoder"].items()}
    for key, value in states["decoder"].items():
        index, rest = key.split(".", 1)
        renamed[f"decoder.layers.{int(index) - 1}.{rest}"] = value.float()
    reference.load_state_dict(renamed, strict=True)
    return reference


def in_parts(suffix: str, save: Callable, states: States, folder: Path) -> None:
    """Names lie here: encoder and decoder files are swapped, and a 16-channel one is called taesd."""
    for name, part in (("decoder", "encoder"), ("encoder", "decoder")):
        save(states[part], folder / f"taesd_{name}.{suffix}")


def combined(suffix: str, save: Callable, prefix: str, states: States, folder: Path) -> None:
    named = {f"{prefix}{part}.{key}": value for part, state in states.items() for key, value in state.items()}
    save(named, folder / f"combined.{suffix}")


def in_folder(safe: bool, states: States, folder: Path) -> None:
    in_diffusers(states).save_pretrained(folder, safe_serialization=safe)
    (folder / "config.json").unlink()


PTH, SAFETENSORS = partial(in_parts, "pth", torch.save), partial(in_parts, "safetensors", save_file)
LAYOUTS: dict[str, tuple[Callable[[States, Path], None], torch.dtype]] = {
    "pth": (PTH, torch.float32),
    "pth-fp16": (PTH, torch.float16),
    "safetensors-fp32": (SAFETENSORS, torch.float32),
    "safetensors-fp16": (SAFETENSORS, torch.float16),
    "safetensors-bf16": (SAFETENSORS, torch.bfloat16),
    "safetensors-fp8-fp32-biases": (SAFETENSORS, torch.float8_e4m3fn),
    "combined-safetensors": (partial(combined, "safetensors", save_file, "taesd_"), torch.float32),
    "combined-pth": (partial(combined, "pth", torch.save, ""), torch.float32),
    "diffusers-folder": (partial(in_folder, True), torch.float32),
    "diffusers-bin": (partial(in_folder, False), torch.float32),
}


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_to_the_bit(layout: str, channels: int, tmp_path: Path) -> None:
    write, dtype = LAYOUTS[layout]
    states: States = {}
    for part, network in (("encoder", tiny.Encoder(channels)), ("decoder", tiny.Decoder(channels))):
        of_biases = torch.float32 if dtype.itemsize == 1 else dtype
        states[part] = {
            key: value.to(of_biases if value.ndim == 1 else dtype) for key, value in random_weights(network).items()
        }
    write(states, tmp_path)
    found = {part: tiny_part for path in tmp_path.iterdir() for part, tiny_part in read_tiny(path).items()}
    assert found.keys() == {*PARTS}
    for part, tiny_part in found.items():
        for key, value in tiny_part.build().state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, states[part][key].float()), key


@pytest.mark.parametrize("family", ["taesd", "taesdxl", "taesd3", "taef1"])
@torch.no_grad()
def test_trained_weights_give_what_diffusers_gives(
    family: str, weights_dir: Path, reference_dir: Path, tmp_path: Path
) -> None:
    """A photograph both ways, from the very same numbers: [0,1] to [-1,1] and back costs a bit of the input."""
    codec = load_codec(family, models_dir=weights_dir)
    reference = in_diffusers({part: read_tiny(weights_dir / f"{family}_{part}.safetensors")[part].build().state_dict()
                              for part in PARTS})  # fmt: skip
    signed = read_picture(reference_dir / "notebook_input.png")[:, :, 128:200, 128:184] * 2 - 1
    latent = reference.encode(signed).latents
    assert (codec.encode((signed + 1) / 2) - latent).abs().max().item() <= TOLERANCE
    image = reference.decode(latent).sample.clamp(-1, 1) / 2 + 0.5
    found = codec.decode(latent)
    assert (found - image).abs().max().item() <= TOLERANCE
    reference.save_pretrained(tmp_path / family)
    assert torch.equal(load_codec(family, models_dir=tmp_path).decode(latent), found)
