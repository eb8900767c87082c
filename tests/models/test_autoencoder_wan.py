"""The VAE of Wan and Qwen Image for stills against diffusers' three-dimensional one."""

from pathlib import Path

import pytest
import torch
from full_vae_files import State, in_layout, plain_vae
from full_vae_reference import assert_equal, latent_like, make_up, relative_error, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from taesd_ext import load_codec
from taesd_ext.models.autoencoder_wan import Decoder, Encoder, last_step
from taesd_ext.weights.vae_layouts import LAYOUTS

diffusers = pytest.importorskip("diffusers")

WAN = next(one for one in LAYOUTS if one.name == "original" and one.models.__name__.endswith("_wan"))


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return make_up(diffusers.AutoencoderKLWan(base_dim=8, z_dim=16))


@pytest.fixture(scope="module")
def folder(reference: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(reference, tmp_path_factory.mktemp("wan") / "vae")


def flat(state: State) -> State:
    """As the files of Qwen2D are: kernels without time, and nothing that works in time."""
    return {key: last_step(value).contiguous() for key, value in state.items() if "time_conv" not in key}


def written(path: Path, state: State) -> Path:
    save_file(state, path)
    return path


@pytest.fixture(params=["diffusers", "diffusers, 2D", "original", "original, 2D", "checkpoint"])
def file(request: pytest.FixtureRequest, reference: nn.Module, folder: Path, tmp_path: Path) -> Path:
    state = reference.state_dict()
    if not request.param.startswith("diffusers"):
        prefix, state = "vae." if request.param == "checkpoint" else "", {}
        own = [in_layout(half.network, WAN, prefix) for half in plain_vae(folder)]
        for key, value in (own[0] | own[1]).items():
            if value.ndim == 1 and key.endswith("weight"):
                key = f"{key.removesuffix('weight')}gamma"
            in_time = value.ndim == 4 and "resample" not in key and "middle.1" not in key and "2D" not in request.param
            state[key] = torch.stack([torch.zeros_like(value)] * 2 + [value], 2) if in_time else value
    return written(tmp_path / "model.safetensors", flat(state) if "2D" in request.param else state)


def test_every_layout_equals_diffusers(file: Path, reference: nn.Module) -> None:
    codec = load_codec(file)
    assert codec.format.name == "wan21"
    assert_equal(codec, reference, 5, 7, batch=2, error=1e-5)


@settings(max_examples=10)
@given(st.integers(1, 40), st.lists(st.integers(1, 6).map(lambda n: 2 * n), min_size=4, max_size=4))
def test_networks_tell_their_own_shape(channels: int, widths: list[int]) -> None:
    for network, more in ((Encoder, {}), (Decoder, {"image_channels": 3}), (Decoder, {"image_channels": 12})):
        arguments = {"latent_channels": channels, "widths": tuple(widths), **more}
        with torch.device("meta"):
            shapes = {key: tuple(value.shape) for key, value in network(**arguments).state_dict().items()}
        assert network.arguments_of(shapes) == arguments


def test_twelve_channels_are_a_picture_of_twice_the_size(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    for kind in ("weight", "bias"):
        key = f"decoder.conv_out.{kind}"
        state[key] = state[key].repeat_interleave(4, dim=0)
    twice = load_codec(written(tmp_path / "upscale2x.safetensors", flat(state)))
    assert (twice.image_scale, twice.spatial_scale_factor) == (2, 8)
    latent = latent_like(twice, 12, 10)
    # Each pixel became four equal ones.
    expected = load_codec(folder).decode(latent).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert relative_error(twice.decode(latent), expected) < 1e-6
    assert twice.decode(latent, tile=64).shape == expected.shape
    assert twice.decode(latent, size=(93, 75)).shape[-2:] == (186, 150)
    assert twice.decode(latent, detail="1/2").shape[-2:] == (96, 80)
