"""Files found by what they hold: every kind against every other, under the names that people give them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from taesd_ext import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.models import tiny, tiny_video
from taesd_ext.weights.identify import UNKNOWN, UNREADABLE, UNVERIFIED, identify
from taesd_ext.weights.installed import candidates, find_part, installed
from taesd_ext.weights.store import add_file
from taesd_ext.weights.tiny_file import PARTS

NARROW = (8, 8, 8, 8)


def narrow(family: str, part: str) -> nn.Module:
    """The family's network with few channels inside: what a family is told by is at its ends."""
    row = native_format(family)
    channels, factor = row.latent_channels, row.spatial_scale_factor
    encoder = part == "encoder"
    if row.frames:
        patch = factor // 8
        if encoder:
            return tiny_video.VideoEncoder(channels, row.splits[::-1], patch, 8)
        return tiny_video.VideoDecoder(channels, NARROW, row.splits, patch)
    if factor == 16:
        return (tiny.F16Encoder if encoder else tiny.F16Decoder)(channels, widths=NARROW)
    if factor == 32:
        return tiny.F32Encoder(channels, (8,) * 5) if encoder else tiny.F32Decoder(channels, (8,) * 6)
    return (tiny.Encoder if encoder else tiny.Decoder)(channels, NARROW, midblock_norm=row.midblock_norm)


def write(path: Path, **networks: nn.Module) -> Path:
    """Both parts behind their names, one under plain keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        (f"{part}.{key}" if len(networks) > 1 else key): value.detach().clone()
        for part, network in networks.items()
        for key, value in network.state_dict().items()
    }
    save_file(state, path)
    return path


def write_family(path: Path, family: str) -> Path:
    return write(path, **{part: narrow(family, part) for part in PARTS})


VARIANTS: dict[str, tuple[str, nn.Module]] = {
    "lighttaew2_1": ("taew2_1", narrow("taew2_1", "decoder")),
    "lighttaew2_2": ("taew2_2", narrow("taew2_2", "decoder")),
    "lighttaehy1_5": ("taehv1_5", narrow("taehv1_5", "decoder")),
    "taeltx2_3_wide": ("taeltx2_3", tiny_video.VideoDecoder(128, NARROW, (2, 2, 2), 4, wide=True)),
    "taehv1_5_super": ("taehv1_5", tiny_video.SuperVideoDecoder(32, NARROW)),
    "taew2_2_super": ("taew2_2", tiny_video.SuperVideoDecoder(48, NARROW)),
    "taeqi2_1_tinier": ("taeqi2_1", tiny.F16Decoder(64, widths=NARROW)),
}


@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
def test_every_published_kind_serves_its_family_and_no_other(name: str, tmp_path: Path) -> None:
    family, network = VARIANTS.get(name, (name, None))
    path = tmp_path / f"{name}.safetensors"
    write(path, encoder=narrow(family, "encoder"), decoder=network or narrow(family, "decoder"))
    found = identify(path)
    assert (found.state, found.family, found.parts) == (UNVERIFIED, family, PARTS)
    for other in FAMILIES:
        for part in PARTS:
            assert candidates(other, part, [tmp_path]) == ([path] if other == family else [])
    assert installed([tmp_path]) == {family: dict.fromkeys(PARTS, path)}
    codec = load_codec(family, models_dir=tmp_path)
    row = native_format(family)
    image = codec.decode(torch.zeros(1, row.latent_channels, 1, 2))
    assert image.shape == (1, 3, row.spatial_scale_factor, 2 * row.spatial_scale_factor)
    assert codec.encode(image).shape == (1, row.latent_channels, 1, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_name_only_the_shape_tells_and_that_is_called_a_guess(family: str, tmp_path: Path) -> None:
    found = identify(write_family(tmp_path / "x" / "file.safetensors", family))
    assert found.by_shape
    rows = [native_format(name) for name in FAMILIES]
    row = native_format(family)
    alike = {
        other.family
        for other in rows
        if (other.latent_channels, other.spatial_scale_factor, other.frames)
        == (row.latent_channels, row.spatial_scale_factor, row.frames)
    }
    assert set(found.families) == alike


@pytest.mark.parametrize("name", ["taehv", "hunyuan video tiny", "TAEHV (1)"])
def test_a_file_of_hunyuan_video_never_becomes_wans(name: str, tmp_path: Path) -> None:
    source = write_family(tmp_path / f"{name}.safetensors", "taehv")
    assert add_file(source, tmp_path / "models").path.name == "taehv.safetensors"


def test_a_video_file_that_nothing_tells_is_not_stored_under_a_familys_name(tmp_path: Path) -> None:
    with pytest.raises(TaesdError):
        add_file(write_family(tmp_path / "x" / "video.safetensors", "taehv"), tmp_path / "models")


@pytest.mark.parametrize(
    "name",
    ["taesd_decoder (1).safetensors", "taesd-decoder.sft", "TAESD Decoder.safetensors",
     "diffusion_pytorch_model.safetensors", "decoder.safetensors", "taesdxl_decoder.safetensors"],
)  # fmt: skip
def test_a_file_is_found_under_any_name(weights_dir: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(weights_dir / "taesd_decoder.safetensors", tmp_path / name)
    assert load_codec("taesd", models_dir=tmp_path).source.decoder == tmp_path / name
    assert "taesdxl" not in installed([tmp_path])


def test_a_loose_diffusers_file_of_both_parts_is_found(tmp_path: Path, weights_dir: Path) -> None:
    state = {}
    for part, less in (("encoder", 0), ("decoder", 1)):
        for key, value in load_file(weights_dir / f"taesdxl_{part}.safetensors").items():
            index, rest = key.split(".", 1)
            state[f"{part}.layers.{int(index) - less}.{rest}"] = value
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    codec = load_codec("taesdxl", models_dir=tmp_path)
    assert codec.has_encoder
    assert codec.has_decoder


def test_a_name_decides_between_files_of_the_same_content(weights_dir: Path, tmp_path: Path) -> None:
    for name in ("a.safetensors", "taesd_decoder.safetensors", "taesd.safetensors"):
        shutil.copy(weights_dir / "taesd_decoder.safetensors", tmp_path / name)
    names = [path.name for path in candidates("taesd", "decoder", [tmp_path])]
    assert names == ["taesd_decoder.safetensors", "taesd.safetensors", "a.safetensors"]
    (tmp_path / "first").mkdir()
    shutil.copy(weights_dir / "taesd_decoder.safetensors", tmp_path / "first" / "b.safetensors")
    assert find_part("taesd", "decoder", [tmp_path / "first", tmp_path]).file.path.name == "b.safetensors"


def test_the_cure_names_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write(tmp_path / "x" / "mine.safetensors", decoder=tiny.Decoder(4, NARROW))
    with pytest.raises(TaesdError) as caught:
        load_codec("taesdxl", models_dir=path.parent)
    assert str(path) in caught.value.cure
    path.rename(path.with_name("taesdxl_mine.safetensors"))
    assert load_codec("taesdxl", models_dir=path.parent).has_decoder


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("taesd", "taef2"):
        write_family(tmp_path / f"{family}.safetensors", family)
    first = installed([tmp_path])
    monkeypatch.setattr("taesd_ext.weights.identify.open_tensor_file", None)
    assert installed([tmp_path]) == first


@pytest.mark.parametrize("change", ["more blocks", "other kernel", "a tensor less"])
def test_what_resembles_ours_and_is_none_is_unknown_and_not_damaged(change: str, tmp_path: Path) -> None:
    state = {key: value.detach() for key, value in narrow("taesd", "decoder").state_dict().items()}
    if change == "more blocks":
        state["3.conv.6.weight"] = torch.zeros(8, 8, 3, 3)
    elif change == "other kernel":
        state["4.conv.0.weight"] = torch.zeros(8, 8, 5, 5)
    else:
        del state["5.conv.2.bias"]
    save_file(state, tmp_path / "taesd_decoder.safetensors")
    found = identify(tmp_path / "taesd_decoder.safetensors")
    assert (found.state, found.family) == (UNKNOWN, "")
    with pytest.raises(TaesdError, match="conv"):
        load_codec("taesd", models_dir=tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "taesd_decoder.safetensors").read_bytes()[:999])
    assert identify(tmp_path / "cut.safetensors").state == UNREADABLE
