"""Reduced detail with small random decoders and heads: found, checked, applied, kept."""

import os
from pathlib import Path

import pytest
import torch
from random_heads import NETWORKS, make_codec, random_heads, ship
from torch.nn import functional

from taesd_ext import TaesdError
from taesd_ext.codec import heads
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import SCALES, weights_hash
from taesd_ext.models.fast import FastNetwork

ALL = tuple(SCALES)


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of shipped files, empty."""
    monkeypatch.setattr(heads, "DATA", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", NETWORKS)
def test_without_heads_the_full_decode_is_averaged(name: str) -> None:
    codec = make_codec(name)
    assert codec.details == ("full",)
    latent = torch.randn(2, codec.latent_channels, 2, 3)
    full = codec.decode(latent)
    for detail, scale in SCALES.items():
        assert torch.equal(codec.decode(latent, detail=detail), functional.avg_pool2d(full, scale))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_head_reads_the_features_of_its_stage(name: str, data: Path) -> None:
    ship(make_codec(name), data)
    codec = make_codec(name)
    assert codec.details == ALL
    latent = torch.randn(1, codec.latent_channels, 2, 3)
    before, decoder, kept = latent.clone(), FastNetwork(codec.decoder), random_heads()
    features = latent
    for index, stage in enumerate(decoder.stages):
        features = decoder.run(features, index, index + 1)
        if stage.scale in kept:
            detail = f"1/{stage.scale}"
            wanted = kept[stage.scale](features).clamp(0, 1)
            assert torch.allclose(codec.decode(latent, detail=detail), wanted, atol=5e-3), "float16 costs something"
    assert torch.equal(latent, before)
    assert codec.heads.layers(16) is None


def test_the_size_is_cut_at_every_detail(data: Path) -> None:
    ship(make_codec(), data)
    codec = make_codec()
    latent = codec.encode(torch.rand(1, 3, 61, 43))
    for detail, scale in SCALES.items():
        whole = codec.decode(latent, detail=detail)
        cut = codec.decode(latent, size=(61, 43), detail=detail)
        assert cut.shape[-2:] == (-(-61 // scale), -(-43 // scale))
        assert torch.equal(cut, whole[..., : cut.shape[-2], : cut.shape[-1]])
    for wrong in ({"size": (610, 43), "detail": "1/4"}, {"detail": "1/3"}):
        with pytest.raises(TaesdError):
            codec.decode(latent, **wrong)


def test_learnt_heads_are_found_again_by_their_weights_only() -> None:
    codec = make_codec()
    assert codec.heads.scales == ()
    codec.heads.keep(random_heads())
    again, latent = make_codec(), torch.randn(1, 4, 4, 4)
    assert codec.details == again.details == ALL
    assert codec.heads.origin == again.heads.origin == "own"
    assert torch.allclose(again.decode(latent, detail="1/4"), codec.decode(latent, detail="1/4"), atol=5e-3)
    assert make_codec(seed=1).details == ("full",)


@pytest.mark.parametrize("place", ["cache", "file"])
def test_heads_serve_this_run_where_the_cache_cannot_be_written(tmp_path: Path, place: str) -> None:
    codec = make_codec()
    if place == "cache":
        (tmp_path / "cache").write_bytes(b"a file")
    else:
        file = codec.heads._cache_file()
        file.with_name(f"{file.name}.{os.getpid()}.part").mkdir(parents=True)
    codec.heads.keep(random_heads())
    assert codec.details == ALL


def test_shipped_heads_serve_their_decoder_and_no_other(data: Path) -> None:
    ship(make_codec(), data)
    for codec in (make_codec(), make_codec(dtype=torch.bfloat16)):
        assert codec.details == ALL
        assert codec.heads.origin == "shipped"
    rounded = codec.decoder.to(torch.bfloat16).float()
    assert weights_hash(rounded) != weights_hash(make_codec().decoder)
    assert Codec(codec.name, codec.format, decoder=rounded).details == ALL
    stranger = make_codec(brightness=0.1)
    assert stranger.details == ("full",), "another decoder of the family got heads that do not fit"
    assert stranger.heads.origin == ""


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_passed_over(damage: bytes | None, data: Path) -> None:
    path = ship(make_codec(), data)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    codec = make_codec()
    assert codec.details == ("full",)
    assert codec.decode(torch.randn(1, 4, 2, 2), detail="1/8").shape == (1, 3, 2, 2)


@pytest.mark.usefixtures("half_on_cpu")
def test_a_head_that_overflows_in_half_precision_is_computed_in_float32(data: Path) -> None:
    ship(make_codec(), data)
    codec = make_codec(dtype=torch.float16)
    with torch.no_grad():
        codec.heads.layers(8)[-1].readout.bias.fill_(float("inf"))
    latent = torch.randn(1, 4, 2, 2)
    assert torch.equal(codec.decode(latent, detail="1/8"), codec.in_float32().decode(latent, detail="1/8"))
