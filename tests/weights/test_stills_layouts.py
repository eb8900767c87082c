"""Files of TAEHV and of Qwen Image 2.1's tiny autoencoder are told by their shapes, and loaded as codecs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from taesd_ext import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.models import tiny, tiny_video
from taesd_ext.weights.tiny_file import read_tiny

State = dict[str, Tensor]


def drawn(network: torch.nn.Module) -> State:
    generator = torch.Generator().manual_seed(5)
    return {
        key: torch.randn(value.shape, generator=generator) * (0.03 if value.ndim > 1 else 0.1)
        for key, value in network.state_dict().items()
    }


def prefixed(**states: State) -> State:
    return {f"{part}.{key}": value for part, state in states.items() for key, value in state.items()}


def written(states: State, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    states = {key: value.to(dtype) for key, value in states.items()}
    if path.suffix == ".pth":
        torch.save(states, path)
    else:
        save_file(states, path)
    return path


def video() -> State:
    return prefixed(encoder=drawn(tiny_video.VideoEncoder()), decoder=drawn(tiny_video.VideoDecoder()))


@pytest.mark.parametrize("name", ["taew2_1.pth", "taew2_1.safetensors"])
def test_a_video_file_holds_both_parts(name: str, tmp_path: Path) -> None:
    written(video(), tmp_path / name, torch.float16)
    codec = load_codec("taew2_1", models_dir=tmp_path)
    assert codec.has_encoder
    assert codec.has_decoder
    assert codec.format.name == "wan21"
    latent = torch.randn(1, 16, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    image = codec.decode(latent)
    assert image.shape == (1, 3, 24, 40)
    assert torch.equal(image, codec.decode(latent[:, :, 0])), "the first frame is shown"
    assert codec.encode(image).shape == (1, 16, 3, 5)


def test_a_video_file_under_another_name_is_no_16_channel_one_of_images(tmp_path: Path) -> None:
    path = written(video(), tmp_path / "something.safetensors")
    assert {part: found.network.kind for part, found in read_tiny(path).items()} == {
        "encoder": "16-channel 8x video",
        "decoder": "16-channel 8x video",
    }
    assert load_codec(path).family == "taew2_1"
    path.rename(tmp_path / "taesd3_decoder.safetensors")
    with pytest.raises(TaesdError, match="is not a taesd3 decoder"):
        load_codec("taesd3", models_dir=tmp_path)


def test_a_16_channel_file_of_images_is_no_video_one(tmp_path: Path) -> None:
    written(drawn(tiny.Decoder(16)), tmp_path / "taew2_1.safetensors")
    with pytest.raises(TaesdError, match="is not a taew2_1 decoder"):
        load_codec("taew2_1", models_dir=tmp_path)


def test_16x_files_of_one_part_each(tmp_path: Path) -> None:
    written(drawn(tiny.F16Encoder()), tmp_path / "taeqi2_1_encoder.pth", torch.float16)
    written(drawn(tiny.F16Decoder()), tmp_path / "taeqi2_1_decoder.pth", torch.float16)
    codec = load_codec("taeqi2_1", models_dir=tmp_path)
    assert (codec.latent_channels, codec.spatial_scale_factor) == (64, 16)
    image = codec.decode(torch.randn(2, 64, 2, 3, generator=torch.Generator().manual_seed(0)))
    assert image.shape == (2, 3, 32, 48)
    assert codec.encode(image).shape == (2, 64, 2, 3)
    assert load_codec(tmp_path / "taeqi2_1_decoder.pth").family == "taeqi2_1"


@pytest.mark.parametrize("fold_counts", [True, False], ids=["fold counted", "fold left out"])
def test_16x_in_diffusers_layout(fold_counts: bool, tmp_path: Path) -> None:
    """diffusers' decoder counts without the clamp; whether an encoder counts its fold is not published."""
    states = {"encoder": drawn(tiny.F16Encoder()), "decoder": drawn(tiny.F16Decoder())}
    renamed = {}
    for part, state in states.items():
        short = 1 if part == "decoder" or not fold_counts else 0
        for key, value in state.items():
            index, rest = key.split(".", 1)
            renamed[f"{part}.layers.{int(index) - short}.{rest}"] = value
    found = read_tiny(written(renamed, tmp_path / "taeqi2_1.safetensors"))
    assert found.keys() == states.keys()
    for part, state in states.items():
        assert found[part].layout == "diffusers"
        assert all(torch.equal(value, state[key]) for key, value in found[part].build().state_dict().items())


def test_a_video_file_of_another_size_is_refused_in_one_line(tmp_path: Path) -> None:
    state = video()
    state["decoder.9.conv.2.weight"] = state["decoder.9.conv.2.weight"].repeat(2, 1, 1, 1)
    with pytest.raises(TaesdError, match=r"does not fit the 16-channel 8x video tiny decoder") as caught:
        read_tiny(written(state, tmp_path / "taew2_1.safetensors"))
    assert "\n" not in str(caught.value)
