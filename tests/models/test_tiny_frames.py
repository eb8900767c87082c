"""TAEHV's networks on films, against the outputs of their own published source.

The golden outputs (every fourth pixel of a decoded one) were computed by madebyollin's taehv.py and taem1.py with the
seeded weights drawn here.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from seeded_weights import seeded_state, seeded_tensor
from torch import Tensor

from taesd_ext.models.tiny import TinyNetwork
from taesd_ext.models.tiny_video import SuperVideoDecoder, VideoDecoder, VideoEncoder

GOLDEN = Path(__file__).parent / "golden" / "tiny_frames.safetensors"
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
    return load_file(GOLDEN)


def seeded(network: TinyNetwork, settings: dict) -> TinyNetwork:
    """Seeded as a part of the published module, whose keys have the part's name in front."""
    prefix = f"{network.part}."
    state = seeded_state({prefix + key: value for key, value in network.state_dict().items()})
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
    for name, value in settings.items():
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
