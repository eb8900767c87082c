"""Detection of latent formats from what hosts say, and the shapes that latents are brought to."""

import pytest
import torch

from taesd_ext.latent_formats import (
    BY_NAME,
    CODEC_FORMATS,
    FAMILIES,
    LATENT_FORMATS,
    LatentFormat,
    ModelEvidence,
    detect,
    pack,
    to_family_latent,
    unpack,
)
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb, rgb_to_latent


def evidence(latent_format=None, decoder_name=None, flags=(), channels=None, stride=None, frames=False):
    return ModelEvidence(latent_format, decoder_name, frozenset(flags), channels, stride, frames)


# What the hosts were seen to say where it is not one name of one row, and the format it means.
@pytest.mark.parametrize(
    ("said", "name"),
    [
        (evidence(flags={"is_sd2"}, channels=4), "sd1"),
        (evidence(flags={"is_sdxl", "is_ssd"}, channels=4), "sdxl"),
        (evidence("SD15", "taesd_decoder", {"is_sd1"}, 4), "sd1"),
        (evidence("SDXL_Playground_2_5", "taesdxl_decoder", {"is_sdxl"}, 4), "playground25"),
        (evidence("UnheardOf", "taef1_decoder", (), 16), "flux1"),
        (evidence("Flux2", "taef2_decoder", (), 128, 16), "flux2"),
        (evidence("SDXL_Flux2", None, {"is_sdxl"}, 32, 8), "flux2"),
        (evidence(channels=128, stride=16), "flux2"),
        (evidence(channels=32, stride=32), "sana"),
        (evidence("UnheardOf", "taew2_1", (), 16, 8, True), "wan21"),
        (evidence("UnheardOf", "taeqi2_1_decoder", (), 64), "qwen21"),
        (evidence("Wan22", "lighttaew2_2", (), 48, 16, True), "wan22"),
        (evidence("Wan21", "lighttaew2_1", (), 16, 8, True), "wan21"),
        (evidence("HunyuanImage21Refiner", None, (), 64, None, True), "hunyuan-refiner"),
        (evidence("MiniMaxH3AV", "taeh3", (), 24, None, True), "h3"),
        (evidence("Hunyuan3Dv2_1Paint", None, (), 4, None, True), "sd1-views"),
        # What a host names and no row has is unknown, whatever its shape and its flags.
        (evidence("UnheardOf", None, (), 64, 16), None),
        (evidence("UnheardOf", None, {"is_sdxl"}, 4), None),
        (evidence("LatentFormat", None, {"is_sdxl"}, 4), "sdxl"),
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
    shape_alone = said.latent_format is None and said.decoder_name is None and not said.flags
    assert detection.guess == (name is not None and shape_alone)
    if name is None:
        assert "unknown" in detection.reason


def test_rows_are_whole() -> None:
    assert len(BY_NAME) == len(LATENT_FORMATS) + len(CODEC_FORMATS)
    assert len(set(FAMILIES)) == len(FAMILIES) == 17
    for row in LATENT_FORMATS:
        for values in (row.shift, row.deviations):
            assert not isinstance(values, tuple) or len(values) in (0, row.latent_channels)
        if row.name in ("opensora13", "seedvr2"):  # nobody published factors
            continue
        factors = LATENT_RGB[row.rgb]
        assert len(factors.factors) == row.latent_channels
        assert all(len(factor) == 3 for factor in factors.factors)
        assert factors.source


def test_unpack_follows_the_published_permutation() -> None:
    """FLUX.2's channels hold (channel, row, column): reshape to (B,32,2,2,h,w), permute (0,1,4,2,5,3)."""
    packed = torch.randn(2, 128, 3, 5)
    expected = packed.reshape(2, 32, 2, 2, 3, 5).permute(0, 1, 4, 2, 5, 3).reshape(2, 32, 6, 10)
    assert torch.equal(unpack(packed), expected)
    assert torch.equal(pack(expected), packed)
    assert torch.equal(to_family_latent(packed, BY_NAME["flux2"]), expected)
    assert to_family_latent(expected, BY_NAME["flux2"]) is expected


def test_playground_latents_are_rescaled() -> None:
    """A raw VAE latent of one deviation above the mean in channel 0 is (8.4927 - 1.6574) * 0.13025 for SDXL."""
    one = torch.zeros(1, 4, 1, 1)
    one[0, 0] = 0.5
    brought = to_family_latent(one, BY_NAME["playground25"])
    assert brought[0, 0].item() == pytest.approx((8.4927 - 1.6574) * 0.13025, rel=1e-5)


def test_of_pictures_and_sound_the_pictures_are_taken() -> None:
    class Nested:
        """As ComfyUI's NestedTensor."""

        is_nested = True

        def unbind(self) -> list[torch.Tensor]:
            return [pictures, torch.randn(1, 32, 2, 5)]

    pictures = torch.randn(1, 24, 2, 3, 3)
    assert torch.equal(to_family_latent(Nested(), BY_NAME["h3"]), pictures[:, :, 0])


def test_the_first_frame_is_taken() -> None:
    """The refiner's lies in the second half of the channels."""
    for name, channels in (("wan21", slice(0, 16)), ("hunyuan-refiner", slice(32, 64))):
        latent = torch.randn(1, channels.stop, 3, 4, 4)
        assert torch.equal(to_family_latent(latent, BY_NAME[name]), latent[:, channels, 0])


@pytest.mark.parametrize("row", LATENT_FORMATS, ids=lambda row: row.name)
def test_the_vaes_own_scale_and_back(row: LatentFormat) -> None:
    """(x - mean) / deviation * scale, as every host's format does it."""
    latent = torch.randn(1, row.latent_channels, 2, 3, 4)
    own = row.to_vae(latent)
    mean = torch.tensor(row.shift).reshape(-1, 1, 1, 1)
    deviation = torch.tensor(row.deviations or (1.0,)).reshape(-1, 1, 1, 1)
    assert torch.allclose((own - mean) / deviation * row.scaling_factor, latent, atol=1e-5)
    assert torch.allclose(row.from_vae(own), latent, atol=1e-5)


@pytest.mark.parametrize("row", LATENT_RGB)
def test_rgb_to_latent_is_shown_as_the_picture(row: str) -> None:
    image = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    latent = rgb_to_latent(image, row)
    assert latent.shape == (2, len(LATENT_RGB[row].factors), 5, 4)
    assert torch.allclose(latent_to_rgb(latent, row), image, atol=1e-5)
