"""Files found by what they hold: every kind against every other, under the names that people give them."""

import shutil
from pathlib import Path

import pytest
import torch
from narrow_files import VARIANTS, both_parts, narrow, own_weights, saved
from random_weights import random_weights

from taesd_ext import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.weights.identify import UNKNOWN, UNREADABLE, identify
from taesd_ext.weights.installed import candidates, find_part, installed
from taesd_ext.weights.store import add_file
from taesd_ext.weights.tiny_file import PARTS, fits


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_name_only_the_shape_tells_and_that_is_called_a_guess(family: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x" / "file.safetensors", both_parts(family))
    found = identify(path)
    assert found.by_shape
    assert set(found.families) == {other for other in FAMILIES if fits(narrow(family), native_format(other))}
    if found.is_guess:
        with pytest.raises(TaesdError):
            add_file(path, tmp_path / "models")


@pytest.mark.parametrize("name", ["taeltx2_3_wide", "taew2_2_super", "taehv1_5_super"])
def test_a_structure_that_one_family_alone_has_needs_no_name(name: str, tmp_path: Path) -> None:
    family, decoder = VARIANTS[name]
    found = identify(saved(tmp_path / "file.safetensors", random_weights(decoder)))
    assert (found.family, found.is_guess) == (family, False)


@pytest.mark.parametrize("name", ["taehv", "hunyuan video tiny", "TAEHV (1)"])
def test_a_file_of_hunyuan_video_never_becomes_wans(name: str, tmp_path: Path) -> None:
    source = saved(tmp_path / f"{name}.safetensors", both_parts("taehv"))
    assert add_file(source, tmp_path / "models").path.name == "taehv.safetensors"


@pytest.mark.parametrize(
    "name",
    ["taesd_decoder (1).safetensors", "taesd-decoder.sft", "TAESD Decoder.safetensors",
     "diffusion_pytorch_model.safetensors", "decoder.safetensors", "taesdxl_decoder.safetensors"],
)  # fmt: skip
def test_a_file_is_found_under_any_name(weights_dir: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(weights_dir / "taesd_decoder.safetensors", tmp_path / name)
    assert load_codec("taesd", models_dir=tmp_path).source.decoder == tmp_path / name
    assert "taesdxl" not in installed([tmp_path])


@pytest.mark.parametrize(
    ("family", "named"), [("taesdxl", "taesd"), ("taew2_1", "taesd3"), ("taesd3", "taew2_1")], ids="-".join
)
def test_a_name_does_not_make_it_another_family(weights_dir: Path, tmp_path: Path, family: str, named: str) -> None:
    path = tmp_path / f"{named}_decoder.safetensors"
    if family == "taesdxl":
        shutil.copy(weights_dir / "taesdxl_decoder.safetensors", path)
    else:
        saved(path, own_weights(family))
    with pytest.raises(TaesdError, match=f"is not a {named} decoder"):
        find_part(named, "decoder", [tmp_path])


@pytest.mark.parametrize(("family", "counted"), [("taesdxl", 1), ("taeqi2_1", 0), ("taeqi2_1", 1)])
def test_a_loose_diffusers_file_of_both_parts_is_found(tmp_path: Path, family: str, counted: int) -> None:
    """diffusers' decoder counts without the clamp; whether an encoder counts what folds pixels is not published."""
    states = {part: own_weights(family, part) for part in PARTS}
    less = {"encoder": 1 - counted if family == "taeqi2_1" else 0, "decoder": 1}
    renamed = {}
    for part, state in states.items():
        for key, value in state.items():
            index, rest = key.split(".", 1)
            renamed[f"{part}.layers.{int(index) - less[part]}.{rest}"] = value
    saved(tmp_path / family / "diffusion_pytorch_model.safetensors", renamed)
    for part, state in states.items():
        found = find_part(family, part, [tmp_path / family])
        assert all(torch.equal(value, state[key]) for key, value in found.build().state_dict().items())


def test_a_name_decides_between_files_of_the_same_content(weights_dir: Path, tmp_path: Path) -> None:
    for name in ("a.safetensors", "taesd_decoder.safetensors", "taesd.safetensors", "first/b.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(weights_dir / "taesd_decoder.safetensors", tmp_path / name)
    names = [path.name for path in candidates("taesd", "decoder", [tmp_path])]
    assert names == ["taesd_decoder.safetensors", "taesd.safetensors", "a.safetensors"]
    assert find_part("taesd", "decoder", [tmp_path / "first", tmp_path]).file.path.name == "b.safetensors"


def test_the_cure_names_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taesd_ext.codec.embedded.embedded_file", lambda latent_format: None)
    path = saved(tmp_path / "x" / "mine.safetensors")
    with pytest.raises(TaesdError) as caught:
        load_codec("taesdxl", models_dir=path.parent)
    assert str(path) in caught.value.cure
    path.rename(path.with_name("taesdxl_mine.safetensors"))
    assert load_codec("taesdxl", models_dir=path.parent).has_decoder


def test_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("taesd", "taef2"):
        saved(tmp_path / f"{family}.safetensors", both_parts(family))
    first = installed([tmp_path])
    with monkeypatch.context() as patched:
        patched.setattr("taesd_ext.weights.identify.open_tensor_file", None)
        assert installed([tmp_path]) == first
    saved(tmp_path / "taesd.safetensors", {"lora.weight": torch.zeros(4)})
    assert installed([tmp_path]).keys() == {"taef2"}


@pytest.mark.parametrize("change", ["more blocks", "other kernel", "a tensor less"])
def test_what_resembles_ours_and_is_none_is_unknown_and_not_damaged(change: str, tmp_path: Path) -> None:
    state = own_weights()
    if change == "more blocks":
        state["3.conv.6.weight"] = torch.zeros(8, 8, 3, 3)
    elif change == "other kernel":
        state["4.conv.0.weight"] = torch.zeros(8, 8, 5, 5)
    else:
        del state["5.conv.2.bias"]
    path = saved(tmp_path / "taesd_decoder.safetensors", state)
    assert (identify(path).state, identify(path).family) == (UNKNOWN, "")
    with pytest.raises(TaesdError, match="conv"):
        load_codec("taesd", models_dir=tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:999])
    assert identify(tmp_path / "cut.safetensors").state == UNREADABLE
