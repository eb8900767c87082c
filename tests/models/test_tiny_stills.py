"""TAEHV on stills, and the 16x network of Qwen Image 2.1, against the outputs of their own published source.

The golden outputs were computed by madebyollin's taehv.py and taesd.py with the seeded weights drawn here.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from seeded_weights import seeded_state, seeded_tensor
from torch import Tensor, nn

from taesd_ext.models import tiny, tiny_video

GOLDEN = Path(__file__).parent / "golden" / "tiny_stills.safetensors"
TOLERANCE = 1e-5


def seeded(network: nn.Module) -> nn.Module:
    network.load_state_dict(seeded_state(network.state_dict()))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def test_a_still_is_encoded_as_a_video_of_one_frame(golden: dict[str, Tensor]) -> None:
    prefixed = seeded_prefixed(tiny_video.VideoEncoder(), "encoder.")
    latent = prefixed(seeded_tensor("image", (1, 3, 24, 40)).abs().clamp(0, 1))
    assert (latent - golden["taew2_1_encoded"]).abs().max().item() <= TOLERANCE


def test_a_still_is_decoded_as_the_first_frame(golden: dict[str, Tensor]) -> None:
    prefixed = seeded_prefixed(tiny_video.VideoDecoder(), "decoder.")
    image = prefixed(seeded_tensor("latent", (1, 16, 3, 3, 5))[:, :, 0] * 1.5)
    assert (image - golden["taew2_1_decoded"]).abs().max().item() <= TOLERANCE


def test_16x_encodes_a_picture_as_an_opaque_one(golden: dict[str, Tensor]) -> None:
    image = seeded_tensor("image", (1, 3, 32, 48)).abs().clamp(0, 1)
    latent = seeded(tiny.F16Encoder())(image)
    assert (latent - golden["taeqi2_1_encoded"]).abs().max().item() <= TOLERANCE
    assert torch.equal(seeded(tiny.F16Encoder())(torch.cat([image, torch.ones_like(image[:, :1])], 1)), latent)


def test_16x_decodes_the_colours(golden: dict[str, Tensor]) -> None:
    image = seeded(tiny.F16Decoder())(seeded_tensor("latent", (1, 64, 2, 3)) * 1.5)
    assert image.shape == (1, 3, 32, 48)
    assert (image - golden["taeqi2_1_decoded"][:, :3]).abs().max().item() <= TOLERANCE


def seeded_prefixed(network: nn.Module, prefix: str) -> nn.Module:
    """Seeded as a part of the published module, whose keys have the part's name in front."""
    state = seeded_state({prefix + key: value for key, value in network.state_dict().items()})
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
    return network.eval().requires_grad_(False)


def test_each_picture_of_a_batch_is_on_its_own() -> None:
    decoder = seeded(tiny_video.VideoDecoder())
    latent = seeded_tensor("batch", (2, 16, 2, 3))
    alone = torch.cat([decoder(latent[:1]), decoder(latent[1:])])
    assert torch.allclose(decoder(latent), alone, atol=1e-6)


@pytest.mark.parametrize("network", [tiny_video.VideoEncoder(), tiny_video.VideoDecoder(), tiny.F16Encoder()])
def test_the_input_is_left_as_it_is(network: nn.Module) -> None:
    channels = 16 if isinstance(network, tiny_video.VideoDecoder) else 3
    given = seeded_tensor("given", (1, channels, 16, 16))
    kept = given.clone()
    network(given)
    assert torch.equal(given, kept)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_coarse_still_leaves_the_last_doublings_out(scale: int) -> None:
    decoder, latent = seeded(tiny_video.VideoDecoder()), seeded_tensor("latent", (1, 16, 2, 3))
    without = scale.bit_length() - 1
    doublings = [index for index, layer in enumerate(decoder) if isinstance(layer, torch.nn.Upsample)][-without:]
    for index in doublings:
        decoder[index] = torch.nn.Identity()
    expected = decoder(latent)
    assert expected.shape == (1, 3, 16 // scale, 24 // scale)
    assert torch.equal(seeded(tiny_video.VideoDecoder())(latent, scale), expected)
