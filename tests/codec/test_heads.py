"""Reduced detail with small random decoders: fitted, kept, found again, checked, stopped."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from taesd_ext import TaesdError
from taesd_ext.codec import bank, heads
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.head_fitting import HEAD_TEACHERS, Crop, HeadFitter
from taesd_ext.codec.head_refining import refine_head
from taesd_ext.codec.heads import SCALES, Readouts, check_heads, load_heads, save_heads, weights_hash
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models import tiny
from taesd_ext.models.fast import FastDecoder, FastEncoder
from taesd_ext.models.student import Head
from taesd_ext.weights.folders import cache_folder

NETWORKS = {
    "sd1": (tiny.Decoder, tiny.Encoder, {"latent_channels": 4}),
    "flux2": (tiny.Decoder, tiny.Encoder, {"latent_channels": 32, "midblock_norm": True}),
    "sana": (tiny.F32Decoder, tiny.F32Encoder, {}),
}
LESSONS = 6


@pytest.fixture(autouse=True)
def _small_and_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small lessons and heads; a cache of the test's own; nothing shipped; random weights are allowed to look bad."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(heads, "DATA", tmp_path / "data")
    monkeypatch.setattr(bank, "BANK_PIXELS", 64)
    for scale, teachers in {8: ((2, 2), (1, 0)), 4: (), 2: ()}.items():
        monkeypatch.setitem(HEAD_TEACHERS, scale, teachers)
    monkeypatch.setattr("taesd_ext.codec.head_fitting.HELD_BACK", 2)
    monkeypatch.setattr("taesd_ext.codec.head_fitting.WORST_ALLOWED", 0.0)
    monkeypatch.setattr(heads, "resolve_dtype", lambda *_: torch.float32)
    monkeypatch.setattr(heads, "STEPS", 40)


def make_codec(name: str = "sd1", seed: int = 0, **options) -> Codec:
    decoder, encoder, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = {"decoder": decoder(**shape), "encoder": encoder(**shape)}
    for network in networks.values():
        network.requires_grad_(False).eval()
    with torch.no_grad():
        # A random network's pictures are near black: this one's lie around grey.
        networks["decoder"][-1].weight *= 8
        networks["decoder"][-1].bias += 0.5
    return Codec(BY_NAME[name].family, BY_NAME[name], **networks, **options)


def calibrated(name: str = "sd1", **options) -> Codec:
    codec = make_codec(name, **options)
    assert codec._readouts.calibrate(lessons=LESSONS)
    return codec


@pytest.mark.parametrize("name", NETWORKS)
def test_without_heads_the_full_decode_is_averaged(name: str) -> None:
    codec = make_codec(name)
    assert codec.details == ("full",)
    latent = torch.randn(2, codec.latent_channels, 2, 3)
    full = codec.decode(latent)
    for detail, scale in SCALES.items():
        image = codec.decode(latent, detail=detail)
        assert torch.equal(image, functional.avg_pool2d(full, scale))


@pytest.mark.parametrize("name", NETWORKS)
def test_calibrated_details_have_their_size_and_show_the_picture(name: str) -> None:
    codec = calibrated(name)
    assert codec.details == ("1/8", "1/4", "1/2", "full")
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, codec.latent_channels, 64 // codec.spatial_scale_factor, 2, generator=generator) * 0.7
    before = latent.clone()
    full = codec.decode(latent)
    for detail, scale in SCALES.items():
        image = codec.decode(latent, detail=detail)
        wanted = functional.avg_pool2d(full, scale)
        assert image.shape == wanted.shape
        assert image.min() >= 0
        assert image.max() <= 1
        if scale < 8:  # so few lessons have too few positions at 1/8 to learn from
            flat = (wanted - wanted.mean(dim=(2, 3), keepdim=True)).square().mean()
            assert (image - wanted).square().mean() < 0.8 * flat, f"{detail} is hardly better than one flat colour"
    assert torch.equal(latent, before)


def test_the_size_is_cut_at_every_detail() -> None:
    codec = calibrated()
    latent = codec.encode(torch.rand(1, 3, 61, 43))
    for detail, scale in SCALES.items():
        whole = codec.decode(latent, detail=detail)
        cut = codec.decode(latent, size=(61, 43), detail=detail)
        assert cut.shape[-2:] == (-(-61 // scale), -(-43 // scale))
        assert torch.equal(cut, whole[..., : cut.shape[-2], : cut.shape[-1]])
    with pytest.raises(TaesdError, match="Cannot cut"):
        codec.decode(latent, size=(610, 43), detail="1/4")


def test_an_unknown_detail_is_refused_in_one_line() -> None:
    with pytest.raises(TaesdError, match="There is no detail '1/3': the details are 1/8, 1/4, 1/2, full"):
        make_codec().decode(torch.randn(1, 4, 2, 2), detail="1/3")


def test_heads_are_found_again_by_their_weights_only(tmp_path: Path) -> None:
    codec = calibrated()
    latent = torch.randn(1, 4, 4, 4)
    again = make_codec()
    assert again.details == codec.details
    assert again.details_from == codec.details_from == "own"
    assert torch.allclose(again.decode(latent, detail="1/4"), codec.decode(latent, detail="1/4"), atol=2e-3)
    assert make_codec(seed=1).details == ("full",)
    assert [path.suffix for path in (tmp_path / "cache" / "taesd_ext" / "heads").iterdir()] == [".safetensors"]


def test_calibrate_returns_at_once_when_heads_are_there() -> None:
    codec = calibrated()

    def fail() -> bool:
        raise AssertionError("something was computed")

    assert codec.calibrate(should_stop=fail)


@pytest.mark.parametrize("after", [0, 1, 7, 30])
def test_stops_when_told_and_leaves_nothing_behind(after: int, tmp_path: Path) -> None:
    codec = make_codec()
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    assert not codec.calibrate(should_stop=should_stop)
    assert asked == after + 1
    assert codec.details == ("full",)
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("fastest", [torch.float32, torch.bfloat16])
def test_goes_on_where_it_was_stopped(fastest: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "resolve_dtype", lambda *_: fastest)
    whole = calibrated()
    latent = torch.randn(1, 4, 2, 2)
    wanted = whole.decode(latent, detail="1/8")
    for kept in (cache_folder() / "heads").iterdir():
        kept.unlink()
    codec, stops, shares, asked = make_codec(), 0, [], itertools.count(1)
    while not codec._readouts.calibrate(
        lessons=LESSONS, should_stop=lambda: next(asked) % 60 == 0, progress=shares.append
    ):
        stops += 1
        assert stops < 20, "it never gets to its end"
    assert stops > 1
    assert shares == sorted(shares)
    assert torch.allclose(codec.decode(latent, detail="1/8"), wanted, atol=1e-5)


def test_heads_are_trained_where_narrow_types_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def watch(head: Head, crops: list[Crop], steps: int, seed: int):
        for _ in range(steps):
            trained.append(len(head.hidden))
            yield

    monkeypatch.setattr("taesd_ext.codec.head_fitting.refine_head", watch)
    calibrated(seed=1)
    assert not trained
    monkeypatch.setattr(heads, "resolve_dtype", lambda *_: torch.bfloat16)
    calibrated(seed=2)
    assert trained == [2] * 40 + [0] * 80


def test_training_brings_a_head_nearer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, head = Head(1).requires_grad_(False), Head(1).requires_grad_(False)
        features = torch.rand(12, 1, 64, 8, 8)
    head.readout.load_state_dict(teacher.readout.state_dict())
    crops = [Crop(part, teacher(part), [], (True, True, False, False)) for part in features]

    def error() -> float:
        return sum(float((head(crop.features) - crop.target)[..., :6, :6].square().mean()) for crop in crops)

    before = error()
    for _ in refine_head(head, crops, 60, seed=0):
        pass
    assert error() < before / 2
    assert not any(weight.requires_grad for weight in head.parameters())


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    codec = make_codec()
    codec._readouts.calibrate(lessons=LESSONS, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_calibration_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    calibrated()
    assert torch.equal(torch.get_rng_state(), before)


def test_calibration_works_in_inference_mode_and_without_an_encoder() -> None:
    codec = make_codec()
    codec = Codec(codec.name, codec.format, decoder=codec.decoder)
    with torch.inference_mode():
        assert codec._readouts.calibrate(lessons=LESSONS)
    assert not codec.decode(torch.randn(1, 4, 2, 2), detail="1/2").is_inference()


def test_a_codec_without_a_decoder_has_nothing_to_calibrate() -> None:
    codec = make_codec()
    codec = Codec(codec.name, codec.format, encoder=codec.encoder)
    assert not codec.calibrate()
    assert codec.details == ("full",)


def _ship(codec: Codec, folder: Path) -> Path:
    """Fit heads and put them where shipped ones lie."""
    fitter = HeadFitter(FastDecoder(codec.decoder), FastEncoder(codec.encoder), lessons=LESSONS)
    with torch.no_grad():
        for _ in fitter.run():
            pass
        path = folder / f"heads_{codec.family}.safetensors"
        heads = {scale: result.head for scale, result in fitter.results.items()}
        save_heads(heads, path, FastDecoder(codec.decoder), codec.family)
    return path


def test_shipped_heads_serve_their_decoder_and_no_other(tmp_path: Path) -> None:
    codec = make_codec()
    _ship(codec, tmp_path / "data")
    assert make_codec().details == ("1/8", "1/4", "1/2", "full")
    assert make_codec(dtype=torch.bfloat16).details == ("1/8", "1/4", "1/2", "full")
    assert make_codec(seed=1).details == ("full",), "another decoder of the family got heads that do not fit"
    assert make_codec().details_from == "shipped"
    assert make_codec(seed=1).details_from == ""


def test_shipped_heads_serve_a_bfloat16_conversion(tmp_path: Path) -> None:
    _ship(make_codec(), tmp_path / "data")
    codec = make_codec()
    rounded = codec.decoder.to(torch.bfloat16).float()
    converted = Codec(codec.name, codec.format, decoder=rounded)
    assert weights_hash(rounded) != weights_hash(make_codec().decoder)
    assert converted.details == ("1/8", "1/4", "1/2", "full")


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_passed_over(damage: bytes | None, tmp_path: Path) -> None:
    path = _ship(make_codec(), tmp_path / "data")
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    codec = make_codec()
    assert codec.details == ("full",)
    assert codec.decode(torch.randn(1, 4, 2, 2), detail="1/8").shape == (1, 3, 2, 2)


def test_saved_heads_come_back(tmp_path: Path) -> None:
    codec = make_codec()
    heads, marks = load_heads(_ship(codec, tmp_path))
    assert sorted(heads) == sorted(marks) == sorted(HEAD_TEACHERS)
    found = check_heads(heads, FastDecoder(codec.decoder))
    assert all(abs(found[scale] - marks[scale]) < 0.1 for scale in marks), "float16 costs something"


def test_a_bad_fit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taesd_ext.codec.head_fitting.WORST_ALLOWED", 200.0)
    codec = make_codec()
    assert not codec._readouts.calibrate(lessons=LESSONS)
    assert codec.details == ("full",)

    def fail() -> bool:
        raise AssertionError("it tried again")

    assert not codec.calibrate(should_stop=fail)


def test_a_student_that_is_worse_gives_way_to_the_linear_readout(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_head = HeadFitter._fit_head

    def spoilt(self: HeadFitter, crops: list, depth: int):
        head = fit_head(self, crops, depth)
        if depth:
            head.readout.bias.add_(0.5)
        return head

    monkeypatch.setattr(HeadFitter, "_fit_head", spoilt)
    codec = make_codec()
    fitter = HeadFitter(FastDecoder(codec.decoder), None, lessons=LESSONS)
    with torch.no_grad():
        for _ in fitter.run():
            pass
    assert all(len(result.head.hidden) == 0 for result in fitter.results.values())


@pytest.mark.usefixtures("half_on_cpu")
def test_a_decoder_of_another_dtype_overflowing_at_reduced_detail_is_done_in_float32() -> None:
    calibrated()
    codec = make_codec(dtype=torch.float16)
    with torch.no_grad():
        codec._readouts._found()[8].readout.bias.fill_(float("inf"))
    latent = torch.randn(1, 4, 2, 2)
    assert torch.equal(codec.decode(latent, detail="1/8"), codec.in_float32().decode(latent, detail="1/8"))


def test_readouts_tell_their_scales() -> None:
    codec = calibrated()
    found = Readouts(codec.family, FastDecoder(codec.decoder), codec.decoder, None)
    assert found.scales == (8, 4, 2)
    assert found.layers(16) is None
