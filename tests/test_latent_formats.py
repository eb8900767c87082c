"""Detection of latent formats from what hosts say, and the shapes that latents are brought to."""

from __future__ import annotations

import pytest
import torch

from taesd_ext.latent_formats import (
    BY_NAME,
    CODEC_FORMATS,
    FAMILIES,
    LATENT_FORMATS,
    ModelEvidence,
    detect,
    from_family_latent,
    native_format,
    pack,
    to_family_latent,
    unpack,
)
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb, rgb_to_latent


def evidence(latent_format=None, decoder_name=None, flags=(), channels=None, stride=None, frames=False):
    return ModelEvidence(latent_format, decoder_name, frozenset(flags), channels, stride, frames)


# What the hosts were seen to say (see each host's class and flag names), and the format it means.
@pytest.mark.parametrize(
    ("said", "name"),
    [
        (evidence(flags={"is_sd1"}, channels=4), "sd1"),
        (evidence(flags={"is_sd2"}, channels=4), "sd1"),
        (evidence(flags={"is_sdxl"}, channels=4), "sdxl"),
        (evidence(flags={"is_sdxl", "is_ssd"}, channels=4), "sdxl"),
        (evidence(flags={"is_sd3"}, channels=16), "sd3"),
        (evidence("SD15", "taesd_decoder", {"is_sd1"}, 4), "sd1"),
        (evidence("SDXL_Playground_2_5", "taesdxl_decoder", {"is_sdxl"}, 4), "playground25"),
        (evidence("Flux", None, (), 16, 8), "flux1"),
        (evidence("UnheardOf", "taef1_decoder", (), 16), "flux1"),
        (evidence("Flux2", "taef2_decoder", (), 128, 16), "flux2"),
        (evidence("SDXL_Flux2", None, {"is_sdxl"}, 32, 8), "flux2"),
        (evidence(channels=128, stride=16), "flux2"),
        (evidence(channels=32, stride=32), "sana"),
        (evidence("Wan21", "taew2_1", {"is_wan"}, 16, 8, True), "wan21"),
        (evidence("UnheardOf", "taew2_1", (), 16, 8, True), "wan21"),
        (evidence("QwenImage21", "taeqi2_1_decoder", (), 64, 16), "qwen21"),
        (evidence("UnheardOf", "taeqi2_1_decoder", (), 64), "qwen21"),
        # The model was switched under the host's flags: what the latent is decides over what is said.
        (evidence("SDXL", "taesdxl_decoder", {"is_sdxl"}, 16), None),
        (evidence(flags={"is_sdxl"}, channels=32), None),
        (evidence(channels=4), None),
        (evidence(channels=16), None),
        (evidence("Flux", channels=16, stride=32), None),
        (evidence("Flux", channels=16, frames=True), None),
        (evidence(channels=7), None),
        (evidence(), None),
    ],
)
def test_detect(said: ModelEvidence, name: str | None) -> None:
    detection = detect(said)
    assert (detection.format.name if detection.format else None) == name
    assert detection.reason
    if name is None:
        assert "unknown" in detection.reason


def test_rows_are_whole() -> None:
    assert len(BY_NAME) == len(LATENT_FORMATS) + len(CODEC_FORMATS)
    assert set(FAMILIES) == {"taesd", "taesdxl", "taesd3", "taef1", "taef2", "taesana", "taew2_1", "taeqi2_1"}
    for row in LATENT_FORMATS:
        factors = LATENT_RGB[row.rgb]
        assert len(factors.factors) == row.latent_channels
        assert factors.source
        if row.family:
            assert native_format(row.family).family == row.family


def test_unpack_follows_the_published_permutation() -> None:
    """FLUX.2's channels hold (channel, row, column): reshape to (B,32,2,2,h,w), permute (0,1,4,2,5,3)."""
    packed = torch.randn(2, 128, 3, 5)
    expected = packed.reshape(2, 32, 2, 2, 3, 5).permute(0, 1, 4, 2, 5, 3).reshape(2, 32, 6, 10)
    assert torch.equal(unpack(packed), expected)
    assert torch.equal(pack(expected), packed)
    assert torch.equal(to_family_latent(packed, BY_NAME["flux2"]), expected)
    assert to_family_latent(expected, BY_NAME["flux2"]) is expected


def test_playground_latents_are_rescaled_and_back() -> None:
    row = BY_NAME["playground25"]
    latent = torch.randn(1, 4, 4, 4)
    brought = to_family_latent(latent, row)
    # A raw VAE latent of one deviation above the mean in channel 0 is (8.4927 - 1.6574) * 0.13025 for SDXL.
    one = torch.zeros(1, 4, 1, 1)
    one[0, 0] = 0.5
    assert to_family_latent(one, row)[0, 0].item() == pytest.approx((8.4927 - 1.6574) * 0.13025, rel=1e-5)
    assert torch.allclose(from_family_latent(brought, row), latent, atol=1e-5)


def test_the_first_frame_of_a_video_is_taken() -> None:
    latent = torch.randn(1, 16, 3, 4, 4)
    assert torch.equal(to_family_latent(latent, BY_NAME["wan21"]), latent[:, :, 0])


@pytest.mark.parametrize("row", LATENT_RGB)
def test_rgb_to_latent_is_shown_as_the_picture(row: str) -> None:
    image = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    latent = rgb_to_latent(image, row)
    assert latent.shape == (2, len(LATENT_RGB[row].factors), 5, 4)
    assert torch.allclose(latent_to_rgb(latent, row), image, atol=1e-5)
