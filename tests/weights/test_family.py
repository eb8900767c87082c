"""Which family a file is of, where its structure leaves two: the evidence, in its order."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import pytest
import torch
from random_weights import random_weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from taesd_ext.cli import main
from taesd_ext.codec.loading import load_codec
from taesd_ext.errors import TaesdError, forget_logged
from taesd_ext.models import tiny
from taesd_ext.weights.identify import identify
from taesd_ext.weights.installed import find_part
from taesd_ext.weights.store import add_file
from taesd_ext.weights.tensor_file import open_tensor_file

PAIRED = ("taesd", "taesdxl", "taesd3", "taef1")
SCALES = {"taesd": 0.18215, "taesdxl": 0.13025, "taesd3": 1.5305, "taef1": 0.3611}


def channels_of(family: str) -> int:
    return 4 if family in PAIRED[:2] else 16


def own_weights(channels: int = 4, prefix: str = "") -> dict[str, Tensor]:
    """Nobody has trained these: no value tells their family."""
    return random_weights(tiny.Decoder(channels), prefix=prefix)


def saved(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata)
    return path


def used_as(path: Path) -> str:
    """What it is called and what it is used as, which must be the same."""
    named = identify(path).families[0]
    assert load_codec(path).family == named
    return named


@pytest.mark.parametrize("family", PAIRED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_official_values_are_known_in_every_precision(
    weights_dir: Path, tmp_path: Path, family: str, dtype: torch.dtype, part: str
) -> None:
    state = load_file(weights_dir / f"{family}_{part}.safetensors")
    path = saved(tmp_path / "taesd_taef1" / "decoder (1).safetensors", {k: v.to(dtype) for k, v in state.items()})
    assert used_as(path) == family
    assert identify(path).families == (family,)


@pytest.mark.parametrize("family", PAIRED)
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--layout", "diffusers", "-o", "made"], "made/diffusion_pytorch_model.safetensors"),
        (["-o", "made.safetensors"], "made.safetensors"),
        (["--format", "keras", "--part", "decoder", "-o", "made.keras"], "model.weights.h5"),
    ],
)
def test_official_values_are_known_in_every_layout(
    weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, options: list[str], name: str
) -> None:
    if "keras" in options:
        pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--family", family, "--models", str(weights_dir), *options]) == 0
    if "keras" in options:
        zipfile.ZipFile("made.keras").extract(name)
    if name == "made.safetensors":
        # Without its metadata, and under the prefix that ComfyUI writes for every family.
        renamed = {key.replace(f"{family}_", "taesd_"): value for key, value in load_file(name).items()}
        save_file(renamed, name)
    assert used_as(Path(name)) == family


def test_values_count_more_than_a_wrong_name(weights_dir: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "taesd_decoder.safetensors"
    wrong.write_bytes((weights_dir / "taesdxl_decoder.safetensors").read_bytes())
    assert used_as(wrong) == "taesdxl"
    with pytest.raises(TaesdError, match=r"not a taesd decoder.*is of taesdxl"):
        find_part("taesd", "decoder", [tmp_path])


@pytest.mark.parametrize("family", PAIRED)
def test_trained_weights_are_told_by_what_the_file_says(tmp_path: Path, family: str) -> None:
    channels = channels_of(family)
    by_metadata = saved(tmp_path / "a.safetensors", own_weights(channels), {"family": family})
    scale = {"vae_scale": torch.tensor(SCALES[family], dtype=torch.float16)}
    by_scale = saved(tmp_path / "b.safetensors", own_weights(channels, "taesd_decoder.") | scale)
    assert (used_as(by_metadata), used_as(by_scale)) == (family, family)
    if family != "taesd":  # ComfyUI's prefix in every family
        assert used_as(saved(tmp_path / "c.safetensors", own_weights(channels, f"{family}_decoder."))) == family


def test_what_is_said_falsely_is_not_believed(tmp_path: Path) -> None:
    path = saved(tmp_path / "sdxl.safetensors", own_weights(4), {"family": "taef1"})
    assert used_as(path) == "taesdxl"
    assert used_as(saved(tmp_path / "xl.safetensors", own_weights(4, "taesd_decoder."))) == "taesdxl"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("my_taesdxl_v2", "taesdxl"),
        ("taesdxl_stuff/taesd_decoder", "taesd"),
        ("taesdxl/taesd_decoder", "taesd"),
        ("taesdxl/mine", "taesdxl"),
        ("SDXL/mine", "taesdxl"),
        ("xl/mine", "taesdxl"),
        ("sd1.5/mine", "taesd"),
        ("TAESD for SDXL", "taesdxl"),
        ("taesd-xl-anime", "taesdxl"),
        ("sdxl_lightning", "taesdxl"),
        ("tae sd15 anime", "taesd"),
        ("taesd v2", "taesd"),
        ("taef1/mine", "taef1"),
        ("my_taef1_v2", "taef1"),
        ("taesd_flux", "taef1"),
        ("flux preview decoder", "taef1"),
        ("flux.1/mine", "taef1"),
        ("tae-f1", "taef1"),
        ("sd3.5 medium", "taesd3"),
        ("taesd3/mine", "taesd3"),
    ],
)
def test_names_tell_last(tmp_path: Path, name: str, family: str) -> None:
    path = saved(tmp_path / f"{name}.safetensors", own_weights(channels_of(family)))
    assert used_as(path) == family
    assert not identify(path).is_guess


@pytest.mark.parametrize(
    "name",
    ["mine", "taesdxl_stuff/mine", "not-sdxl/mine", "sd1 and sdxl", "pixels", "textl", "decoder (1)", "xl/sub/mine"],
)
def test_a_guess_is_called_one_and_said_once(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / f"{name}.safetensors", own_weights())
    forget_logged("guessed")
    with caplog.at_level(logging.WARNING, "taesd_ext"):
        assert used_as(path) == used_as(path) == "taesd"
    said = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert len(said) == 1
    assert "taesd or taesdxl" in said[0]
    assert "taesd or taesdxl" in str(identify(path))
    assert main(["weights", "list", "--models", str(path.parent)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if str(path) in line)
    assert line.startswith("taesd or taesdxl ")


def test_a_guess_gets_no_name_that_says_more(tmp_path: Path) -> None:
    source = saved(tmp_path / "mine.safetensors", own_weights())
    with pytest.raises(TaesdError, match=r"taesd or taesdxl.*taesdxl_mine"):
        add_file(source, tmp_path / "models")


@pytest.mark.parametrize(
    ("family", "name"), [("taef1", "flux preview decoder"), ("taesdxl", "decoder (1)"), ("taesd", "x")]
)
def test_a_dropped_official_file_gets_its_own_name(weights_dir: Path, tmp_path: Path, family: str, name: str) -> None:
    source = tmp_path / f"{name}.safetensors"
    source.write_bytes((weights_dir / f"{family}_decoder.safetensors").read_bytes())
    assert add_file(source, tmp_path / "models").path.name == f"{family}_decoder.safetensors"


def test_the_working_folder_may_tell_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("taesdxl", "taesd"):
        saved(tmp_path / folder / "mine.safetensors", own_weights())
        monkeypatch.chdir(tmp_path / folder)
        assert used_as(Path("mine.safetensors")) == folder


def test_an_export_says_what_the_file_is_and_not_what_it_is_called(tmp_path: Path) -> None:
    by_word = saved(tmp_path / "taesd_xl_anime.safetensors", own_weights())
    untold = saved(tmp_path / "decoder.safetensors", own_weights())
    for source, family in ((by_word, "taesdxl"), (untold, "decoder")):
        made = tmp_path / "made" / f"{family}.safetensors"
        assert main(["export", "--family", str(source), "--part", "decoder", "-o", str(made)]) == 0
        assert open_tensor_file(made).metadata["family"] == family
    assert identify(tmp_path / "made" / "decoder.safetensors").is_guess
