"""TAEHV's networks on films and stills, and the 16x network of Qwen Image 2.1, against their own published source.

The golden outputs (of a film every fourth pixel) were computed by madebyollin's taehv.py, taem1.py and taesd.py with
the seeded weights drawn here.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from seeded_weights import seeded_state, seeded_tensor
from torch import Tensor, nn

from taesd_ext.models.tiny import F16Decoder, F16Encoder, TinyNetwork
from taesd_ext.models.tiny_video import SuperVideoDecoder, VideoDecoder, VideoEncoder

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5
WIDE = (1024, 512, 256, 64)

DECODERS = {
    "taew2_1": (lambda: VideoDecoder(16), {}, 3),
    "taehv1_5_super": (lambda: SuperVideoDecoder(32), {}, 2),
    "taeltx2_3_wide": (lambda: VideoDecoder(128, WIDE, (2, 2, 2), 4, wide=True), {}, 2),
    "taeh3": (lambda: VideoDecoder(24, patch=2), {"chunk": 5}, 2),
    "taecvx": (lambda: VideoDecoder(16), {"whole_if_even": True}, 2),
    "taem1": (lambda: VideoDecoder(12, splits=(1, 2, 3)), {}, 2),
}
ENCODERS = {
    "taew2_1": (lambda: VideoEncoder(16), {}, 5),
    "taeltx2_3_wide": (lambda: VideoEncoder(128, (2, 2, 2), 4), {}, 9),
    "taem1": (lambda: VideoEncoder(12, (3, 2, 1)), {}, 12),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "tiny_frames.safetensors")


@pytest.fixture(scope="module")
def stills() -> dict[str, Tensor]:
    return load_file(GOLDEN / "tiny_stills.safetensors")


def seeded(network: TinyNetwork, settings: dict | None = None) -> TinyNetwork:
    """Seeded as a part of the published module, whose keys have the part's name in front."""
    prefix = f"{network.part}." if network.frames else ""
    state = seeded_state({prefix + key: value for key, value in network.state_dict().items()})
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
    for name, value in (settings or {}).items():
        setattr(network, name, value)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("name", DECODERS)
def test_frames_are_decoded_as_by_the_original(name: str, golden: dict[str, Tensor]) -> None:
    build, settings, count = DECODERS[name]
    network = seeded(build(), settings)
    latent = seeded_tensor("latents", (1, network.latent_channels, count, 2, 1)) * 1.5
    images = network.decode_frames(latent)
    expected = golden[f"{name}_decoded"].clamp(0, 1)
    assert images[..., ::4, ::4].shape == expected.shape
    assert (images[..., ::4, ::4].clamp(0, 1) - expected).abs().max().item() <= TOLERANCE
    still = network(latent[:, :, 0])
    first = network.split - 1 if settings.get("whole_if_even") else 0
    assert (still - images[:, :, first]).abs().max().item() <= TOLERANCE, "a still is the first frame"


@pytest.mark.parametrize("name", ENCODERS)
def test_frames_are_encoded_as_by_the_original(name: str, golden: dict[str, Tensor]) -> None:
    build, settings, count = ENCODERS[name]
    network = seeded(build(), settings)
    side = network.spatial_scale_factor
    images = seeded_tensor("images", (1, 3, count, side, side)).abs().clamp(0, 1)
    frames = list(images.unbind(2))
    latent = torch.stack(network._encode([*frames, *frames[-1:] * (-count % network.joined)]), 2)
    expected = golden[f"{name}_encoded"]
    assert latent.shape == expected.shape
    assert (latent - expected).abs().max().item() <= TOLERANCE
    repeated = network._encode(frames[:1] * network.joined)[0]
    assert torch.allclose(network(frames[0]), repeated, atol=TOLERANCE), "a still is a video that stands"


STILLS = {
    "taew2_1_encoded": (VideoEncoder, ("image", (1, 3, 24, 40))),
    "taew2_1_decoded": (VideoDecoder, ("latent", (1, 16, 3, 3, 5))),
    "taeqi2_1_encoded": (F16Encoder, ("image", (1, 3, 32, 48))),
    "taeqi2_1_decoded": (F16Decoder, ("latent", (1, 64, 2, 3))),
}


@pytest.mark.parametrize("name", STILLS)
def test_a_still_is_what_the_original_makes_of_it(name: str, stills: dict[str, Tensor]) -> None:
    build, (kind, shape) = STILLS[name]
    given = seeded_tensor(kind, shape)
    given = given.abs().clamp(0, 1) if kind == "image" else given * 1.5
    given = given[:, :, 0] if given.ndim == 5 else given
    kept, network = given.clone(), seeded(build())
    found = network(given)
    assert (found - stills[name][:, : found.shape[1]]).abs().max().item() <= TOLERANCE
    assert torch.equal(given, kept)
    if build is F16Encoder:
        assert torch.equal(network(torch.cat([given, torch.ones_like(given[:, :1])], 1)), found), "it is opaque"


def test_each_picture_of_a_batch_is_on_its_own() -> None:
    decoder = seeded(VideoDecoder())
    latent = seeded_tensor("batch", (2, 16, 2, 3))
    alone = torch.cat([decoder(latent[:1]), decoder(latent[1:])])
    assert torch.allclose(decoder(latent), alone, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_coarse_still_leaves_the_last_doublings_out(scale: int) -> None:
    decoder, latent = seeded(VideoDecoder()), seeded_tensor("latent", (1, 16, 2, 3))
    without = scale.bit_length() - 1
    doublings = [index for index, layer in enumerate(decoder) if isinstance(layer, nn.Upsample)][-without:]
    for index in doublings:
        decoder[index] = nn.Identity()
    expected = decoder(latent)
    assert expected.shape == (1, 3, 16 // scale, 24 // scale)
    assert torch.equal(seeded(VideoDecoder())(latent, scale), expected)
