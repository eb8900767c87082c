"""The Consistency Decoder against diffusers' ConsistencyDecoderVAE, from both published layouts."""

from pathlib import Path

import pytest
import torch
from full_vae_files import consistency_in_original_layout
from full_vae_reference import LARGEST_ERROR, encoded, latent_like, make_up, picture, relative_error, saved
from torch import Tensor, nn

from taesd_ext import load_codec
from taesd_ext.codec.codec import Codec
from taesd_ext.models.consistency_decoder import SEED, Decoder
from taesd_ext.weights.vae_table import VAE_BY_NAME

diffusers = pytest.importorskip("diffusers")

@pytest.fixture(scope="module")
def reference() -> nn.Module:
    vae = diffusers.ConsistencyDecoderVAE(
        encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 64, 64)
    )
    return make_up(vae)


@pytest.fixture(scope="module")
def folder(reference: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(reference, tmp_path_factory.mktemp("consistency") / "vae")


@torch.no_grad()
def decoded(vae: nn.Module, latent: Tensor) -> Tensor:
    """Each picture from the noise of the same seed."""
    own = (latent / vae.config.scaling_factor).split(1)
    pixels = [vae.decode(one, generator=torch.Generator().manual_seed(SEED)).sample for one in own]
    return (torch.cat(pixels) / 2 + 0.5).clamp(0, 1)


def program(state: dict[str, Tensor]) -> nn.Module:
    """A TorchScript program with these weights at these places."""
    root = nn.Module()
    for key, value in state.items():
        *path, name = key.split(".")
        module = root
        for step in path:
            if not hasattr(module, step):
                module.add_module(step, nn.Module())
            module = getattr(module, step)
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return torch.jit.script(root)


@pytest.fixture(params=["diffusers", "embed_time", "blocks.embed_time.emb"])
def codec(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Codec:
    if request.param == "diffusers":
        return load_codec(folder)
    program(consistency_in_original_layout(folder, request.param)).save(tmp_path / "decoder.pt")
    return load_codec(tmp_path / "decoder.pt")


def test_both_layouts_equal_diffusers(codec: Codec, reference: nn.Module) -> None:
    assert (codec.name, codec.format.name) == ("consistency-decoder", "sd1")
    latent = latent_like(codec, 8, 8)
    assert relative_error(codec.decode(latent), decoded(reference, latent)) <= LARGEST_ERROR
    if codec.has_encoder:
        image = picture(40, 56)
        assert relative_error(codec.encode(image), encoded(reference, image)) <= LARGEST_ERROR


def test_the_same_latent_gives_the_same_picture_and_the_random_state_of_others_stays(folder: Path) -> None:
    codec = load_codec(folder)
    latent = latent_like(codec, 2, 3)
    first = codec.decode(latent)
    torch.rand(1)
    state = torch.get_rng_state()
    assert torch.equal(codec.decode(latent.repeat(2, 1, 1, 1)), first.repeat(2, 1, 1, 1))
    assert torch.equal(torch.get_rng_state(), state)


def test_its_cost_is_said_before_it_starts(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_codec(folder)
    assert VAE_BY_NAME["consistency-decoder"].cost in caplog.text


def test_tiles_share_the_noise_of_the_whole_picture(folder: Path) -> None:
    codec = load_codec(folder)
    tiles: list[int] = []
    latent = latent_like(codec, 8, 12)
    tiled = codec.decode(latent, tile=64, on_tiled=tiles.append)
    assert tiles == [64]
    whole = codec.decode(latent)
    other = codec.decode(latent.flip(-1)).flip(-1)  # the same picture from other noise
    assert (tiled - whole).abs().mean() < (other - whole).abs().mean() / 2


@pytest.mark.parametrize("widths", [(32, 64, 96, 64), (64, 32, 32, 96)])
def test_the_network_tells_its_own_shape(widths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in Decoder(4, widths).state_dict().items()}
    assert Decoder.arguments_of(shapes) == {"latent_channels": 4, "widths": widths}
