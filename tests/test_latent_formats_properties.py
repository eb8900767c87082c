"""Detection for every registered format, whatever a host says beside the truth."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from taesd_ext.latent_formats import (
    FAMILIES,
    LATENT_FORMATS,
    LatentFormat,
    ModelEvidence,
    detect,
    from_family_latent,
    native_format,
    pack,
    to_family_latent,
)

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
    evidence = ModelEvidence(name, decoder, flags, channels, stride, frames)
    found = detect(evidence)
    assert found.reason
    assert found.format is None or channels is None or found.format.accepts(channels, stride)
    assert found.format is None or not frames or found.format.frames
    assert found == detect(replace(evidence)), "the same evidence gives the same answer"


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
