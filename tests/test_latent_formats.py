"""Detection of latent formats from what hosts say, and the shapes that latents are brought to.

The second half tries every registered format, whatever a host says beside the truth.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taesd_ext.latent_formats import (
    BY_NAME,
    CODEC_FORMATS,
    FAMILIES,
    LATENT_FORMATS,
    LatentFormat,
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


ROWS = st.sampled_from(LATENT_FORMATS)
NAMED = [(row, {"latent_format": name}) for row in LATENT_FORMATS for name in row.host_names]
DECODED = [(native_format(family), {"decoder_name": f"{family}_decoder"}) for family in FAMILIES]
FLAGGED = [(row, {"flags": frozenset({flag})}) for row in LATENT_FORMATS for flag in row.flags]
KNOWN_FLAGS = [flag for row in LATENT_FORMATS for flag in row.flags]
FLAGS = st.frozensets(st.sampled_from(KNOWN_FLAGS) | st.text(max_size=9))
NAMES = st.none() | st.sampled_from([name for row in LATENT_FORMATS for name in row.host_names]) | st.text(max_size=9)
DECODERS = st.none() | st.sampled_from([f"{family}_decoder" for family in FAMILIES]) | st.text(max_size=9)


@st.composite
def shapes(draw: st.DrawFn, row: LatentFormat) -> dict[str, object]:
    """What a sampler's latent of this format can look like, as far as it is known."""
    fold = draw(st.sampled_from(sorted({1, row.packed})))
    channels = draw(st.sampled_from([None, row.latent_channels * row.folded_frames * fold**2]))
    stride = draw(st.sampled_from([None, row.spatial_scale_factor * fold])) if channels else None
    return {"channels": channels, "stride": stride, "frames": row.frames and draw(st.booleans())}


@given(data=st.data(), named=st.sampled_from(NAMED + DECODED), flags=FLAGS)
def test_the_hosts_names_decide(data: st.DataObject, named: tuple[LatentFormat, dict], flags: frozenset[str]) -> None:
    row, said = named
    found = detect(ModelEvidence(flags=flags, **said, **data.draw(shapes(row))))
    assert found.family == row.family
    assert found.format is row or "decoder_name" in said


@given(data=st.data(), flagged=st.sampled_from(FLAGGED))
def test_a_flag_alone_decides(data: st.DataObject, flagged: tuple[LatentFormat, dict]) -> None:
    row, said = flagged
    assert detect(ModelEvidence(**said, **data.draw(shapes(row)))).format is row


@given(
    name=NAMES, decoder=DECODERS, flags=FLAGS, channels=st.none() | st.integers(0, 600),
    stride=st.none() | st.sampled_from([1, 4, 8, 16, 32, 64, 128]), frames=st.booleans(),
)  # fmt: skip
def test_whatever_is_said_the_latents_have_the_last_word(
    name: str | None, decoder: str | None, flags: frozenset[str], channels: int | None, stride: int | None, frames: bool
) -> None:
    """Never an exception, never a format that cannot read such latents, always a reason in one line."""
    said = ModelEvidence(name, decoder, flags, channels, stride, frames)
    found = detect(said)
    assert found.reason
    assert found.format is None or channels is None or found.format.accepts(channels, stride)
    assert found.format is None or not frames or found.format.frames


@given(row=ROWS, height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 999), packed=st.booleans())
def test_latents_reach_the_family_and_come_back(
    row: LatentFormat, height: int, width: int, seed: int, packed: bool
) -> None:
    """To the family's scale and back is the same latent; the sampler's tensor is left as it was."""
    shape = (2, row.latent_channels, row.packed * height, row.packed * width)
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    held = pack(latent, row.packed) if packed and row.packed > 1 else latent
    before = held.clone()
    there = to_family_latent(held, row)
    assert there.shape == latent.shape
    back = from_family_latent(there, row, packed=packed and row.packed > 1)
    assert torch.equal(held, before)
    assert torch.allclose(back, held, atol=2e-5)
