"""Every layout of a tiny autoencoder's weights, read by us and judged by diffusers' AutoencoderTiny."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_weights import random_weights
from safetensors.torch import save_file
from torch import Tensor, nn

from taesd_ext import load_codec
from taesd_ext.codec.picture_file import read_picture
from taesd_ext.models import tiny
from taesd_ext.weights.tiny_file import read_tiny

diffusers = pytest.importorskip("diffusers")

FP8 = getattr(torch, "float8_e4m3fn", None)
EIGHT_TIMES = ("taesd", "taesdxl", "taesd3", "taef1")
TOLERANCE = 1e-5

State = dict[str, Tensor]
Write = Callable[[dict[str, State], Path], list[Path]]


def random_states(channels: int, seed: int) -> dict[str, State]:
    """Weights of both parts in the original layout."""
    networks = {"encoder": tiny.Encoder(channels), "decoder": tiny.Decoder(channels)}
    return {part: random_weights(network, seed) for part, network in networks.items()}


def cast(states: dict[str, State], dtype: torch.dtype, biases: torch.dtype | None = None) -> dict[str, State]:
    return {
        part: {key: value.to(biases if biases and value.ndim == 1 else dtype) for key, value in state.items()}
        for part, state in states.items()
    }


def in_diffusers(states: dict[str, State]) -> nn.Module:
    """The reference: diffusers' own network with these weights, whose decoder counts without the clamp."""
    channels = states["decoder"]["1.weight"].shape[1]
    reference = diffusers.AutoencoderTiny(latent_channels=channels).eval().requires_grad_(False)
    renamed = {f"encoder.layers.{key}": value.float() for key, value in states["encoder"].items()}
    for key, value in states["decoder"].items():
        index, rest = key.split(".", 1)
        renamed[f"decoder.layers.{int(index) - 1}.{rest}"] = value.float()
    reference.load_state_dict(renamed, strict=True)
    return reference


def in_parts(suffix: str, save: Callable) -> Write:
    """Names lie here: encoder and decoder files are swapped, and a 16-channel one is called taesd."""

    def write(states: dict[str, State], folder: Path) -> list[Path]:
        paths = [folder / f"taesd_decoder.{suffix}", folder / f"taesd_encoder.{suffix}"]
        for path, part in zip(paths, ("encoder", "decoder"), strict=True):
            save(states[part], path)
        return paths

    return write


def combined(suffix: str, save: Callable, prefix: str) -> Write:
    def write(states: dict[str, State], folder: Path) -> list[Path]:
        named = {f"{prefix}{part}.{key}": value for part, state in states.items() for key, value in state.items()}
        save(named, folder / f"combined.{suffix}")
        return [folder / f"combined.{suffix}"]

    return write


def in_folder(states: dict[str, State], folder: Path, safe: bool = True) -> list[Path]:
    in_diffusers(states).save_pretrained(folder, safe_serialization=safe)
    return [folder / f"diffusion_pytorch_model.{'safetensors' if safe else 'bin'}"]


PTH, SAFETENSORS = in_parts("pth", torch.save), in_parts("safetensors", save_file)
LAYOUTS: dict[str, tuple[Write, torch.dtype, torch.dtype | None]] = {
    "pth": (PTH, torch.float32, None),
    "pth-fp16": (PTH, torch.float16, None),
    "safetensors-fp32": (SAFETENSORS, torch.float32, None),
    "safetensors-fp16": (SAFETENSORS, torch.float16, None),
    "safetensors-bf16": (SAFETENSORS, torch.bfloat16, None),
    "combined-safetensors": (combined("safetensors", save_file, "taesd_"), torch.float32, None),
    "combined-pth": (combined("pth", torch.save, ""), torch.float32, None),
    "diffusers-folder": (in_folder, torch.float32, None),
    "diffusers-bin": (partial(in_folder, safe=False), torch.float32, None),
}
if FP8 is not None:
    LAYOUTS["safetensors-fp8-fp32-biases"] = (SAFETENSORS, FP8, torch.float32)


@torch.no_grad()
def check_against(reference: nn.Module, networks: dict[str, nn.Module], channels: int, seed: int) -> None:
    """Ours from [0,1] and diffusers' from [-1,1], on a size with an odd number of latent positions."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, 72, 56, generator=generator)
    latent = torch.randn(1, channels, 9, 7, generator=generator) * 2
    encoded = reference.encode(image * 2 - 1).latents
    decoded = reference.decode(latent).sample / 2 + 0.5
    assert (networks["encoder"](image) - encoded).abs().max().item() <= TOLERANCE
    assert (networks["decoder"](latent) - decoded).abs().max().item() <= TOLERANCE


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(channels=st.sampled_from([4, 16]), seed=st.integers(0, 2**31))
def test_random_weights_in_every_layout(
    layout: str, channels: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write, dtype, biases = LAYOUTS[layout]
    states = cast(random_states(channels, seed), dtype, biases)
    paths = write(states, tmp_path_factory.mktemp("weights"))
    networks = {part: found.build() for path in paths for part, found in read_tiny(path).items()}
    assert networks.keys() == {"encoder", "decoder"}
    for part, network in networks.items():
        for key, value in network.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, states[part][key].float()), key
    check_against(in_diffusers(states), networks, channels, seed)


def real_states(family: str, weights_dir: Path) -> dict[str, State]:
    return {
        part: dict(read_tiny(weights_dir / f"{family}_{part}.safetensors")[part].build().state_dict())
        for part in ("encoder", "decoder")
    }


@pytest.mark.parametrize("family", EIGHT_TIMES)
@torch.no_grad()
def test_codec_gives_what_diffusers_gives(family: str, weights_dir: Path, reference_dir: Path) -> None:
    """A photograph both ways, from the very same numbers: [0,1] to [-1,1] and back costs a bit of the input."""
    reference = in_diffusers(real_states(family, weights_dir))
    codec = load_codec(family, models_dir=weights_dir)
    signed = read_picture(reference_dir / "notebook_input.png")[:, :, 128:296, 128:264] * 2 - 1
    latent = reference.encode(signed).latents
    assert (codec.encode((signed + 1) / 2) - latent).abs().max().item() <= TOLERANCE
    image = reference.decode(latent).sample.clamp(-1, 1) / 2 + 0.5
    assert (codec.decode(latent) - image).abs().max().item() <= TOLERANCE


@pytest.mark.parametrize("family", EIGHT_TIMES)
@torch.no_grad()
def test_codec_on_noise_is_as_exact_as_diffusers(family: str, weights_dir: Path) -> None:
    """Noise that no model paints: float32 itself is worth about the tolerance in these images, judged by float64."""
    states = real_states(family, weights_dir)
    reference, exact = in_diffusers(states), in_diffusers(states).double()
    codec = load_codec(family, models_dir=weights_dir)
    image = torch.rand(2, 3, 104, 72, generator=torch.Generator().manual_seed(7))
    latent = codec.encode(image)
    assert (latent - reference.encode(image * 2 - 1).latents).abs().max().item() <= TOLERANCE
    expected = exact.decode(latent.double()).sample.clamp(-1, 1) / 2 + 0.5
    rounding = (reference.decode(latent).sample.clamp(-1, 1) / 2 + 0.5 - expected).abs().max().item()
    assert (codec.decode(latent) - expected).abs().max().item() <= max(TOLERANCE, 4 * rounding)


@pytest.mark.parametrize("family", EIGHT_TIMES)
def test_real_weights_through_a_diffusers_folder(family: str, weights_dir: Path, tmp_path: Path) -> None:
    """save_pretrained of the trained weights, loaded back as a family from a models folder and as a path."""
    ours = load_codec(family, models_dir=weights_dir)
    in_diffusers(real_states(family, weights_dir)).save_pretrained(tmp_path / family)
    latent = torch.randn(1, ours.latent_channels, 8, 8, generator=torch.Generator().manual_seed(3))
    for named in (tmp_path / family, family):
        theirs = load_codec(named, models_dir=tmp_path)
        assert theirs.source.decoder == tmp_path / family / "diffusion_pytorch_model.safetensors"
        assert torch.equal(theirs.decode(latent), ours.decode(latent))
