"""Which family a file is of, where its structure leaves two: the evidence, in its order."""

import logging
import zipfile
from pathlib import Path

import pytest
import torch
from narrow_files import own_weights, saved
from safetensors.torch import load_file, save_file

from taesd_ext.cli import main
from taesd_ext.codec.loading import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import native_format
from taesd_ext.weights.identify import identify
from taesd_ext.weights.store import add_file
from taesd_ext.weights.tensor_file import open_tensor_file

PAIRED = ("taesd", "taesdxl", "taesd3", "taef1")


def used_as(path: Path) -> str:
    """What it is called and what it is used as, which must be the same."""
    named = identify(path).families[0]
    assert load_codec(path).family == named
    return named


@pytest.mark.parametrize("family", PAIRED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_official_values_are_known_in_every_precision(
    weights_dir: Path, tmp_path: Path, family: str, dtype: torch.dtype, part: str
) -> None:
    state = load_file(weights_dir / f"{family}_{part}.safetensors")
    path = saved(tmp_path / "taesd_taef1" / "decoder (1).safetensors", {k: v.to(dtype) for k, v in state.items()})
    assert used_as(path) == family
    assert identify(path).families == (family,)


MADE = {
    "made/diffusion_pytorch_model.safetensors": ["--layout", "diffusers", "-o", "made"],
    "made.safetensors": ["-o", "made.safetensors"],
    "model.weights.h5": ["--format", "keras", "--part", "decoder", "-o", "made.keras"],
}


@pytest.mark.parametrize(
    ("family", "name"),
    [*((family, name) for family in PAIRED for name in list(MADE)[:2]), ("taef1", "model.weights.h5")],
)
def test_official_values_are_known_in_every_layout(
    weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, name: str
) -> None:
    options = MADE[name]
    if "keras" in options:
        pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--family", family, "--models", str(weights_dir), *options]) == 0
    if "keras" in options:
        zipfile.ZipFile("made.keras").extract(name)
    if name == "made.safetensors":
        # Without its metadata, and under the prefix that ComfyUI writes for every family.
        save_file({key.replace(f"{family}_", "taesd_"): value for key, value in load_file(name).items()}, name)
    assert used_as(Path(name)) == family


@pytest.mark.parametrize("family", PAIRED)
def test_trained_weights_are_told_by_what_the_file_says(tmp_path: Path, family: str) -> None:
    scale = {"vae_scale": torch.tensor(native_format(family).scaling_factor, dtype=torch.float16)}
    assert used_as(saved(tmp_path / "a.safetensors", own_weights(family), {"family": family})) == family
    assert used_as(saved(tmp_path / "b.safetensors", own_weights(family, prefix="taesd_decoder.") | scale)) == family
    if family != "taesd":  # ComfyUI's prefix in every family
        prefix = f"{family}_decoder."
        assert used_as(saved(tmp_path / "c.safetensors", own_weights(family, prefix=prefix))) == family


def test_what_is_said_falsely_is_not_believed(tmp_path: Path) -> None:
    assert used_as(saved(tmp_path / "sdxl.safetensors", None, {"family": "taef1"})) == "taesdxl"
    assert used_as(saved(tmp_path / "xl.safetensors", own_weights(prefix="taesd_decoder."))) == "taesdxl"


NAMES = {
    "taesd": ["taesdxl_stuff/taesd_decoder", "taesdxl/taesd_decoder", "sd1.5/mine", "tae sd15 anime", "taesd v2"],
    "taesdxl": [
        "my_taesdxl_v2", "taesdxl/mine", "SDXL/mine", "xl/mine", "TAESD for SDXL", "taesd-xl-anime", "sdxl_lightning",
    ],
    "taesd3": ["sd3.5 medium", "taesd3/mine"],
    "taef1": ["taef1/mine", "my_taef1_v2", "taesd_flux", "flux preview decoder", "flux.1/mine", "tae-f1"],
}  # fmt: skip


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in NAMES.items() for name in names])
def test_names_tell_last(tmp_path: Path, name: str, family: str) -> None:
    path = saved(tmp_path / f"{name}.safetensors", own_weights(family))
    assert used_as(path) == family
    assert not identify(path).is_guess


@pytest.mark.parametrize(
    "name",
    ["mine", "taesdxl_stuff/mine", "not-sdxl/mine", "sd1 and sdxl", "pixels", "textl", "decoder (1)", "xl/sub/mine"],
)
def test_a_guess_is_called_one_and_said_once(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / f"{name}.safetensors")
    with caplog.at_level(logging.WARNING, "taesd_ext"):
        assert used_as(path) == used_as(path) == "taesd"
    said = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert len(said) == 1
    found = identify(path)
    assert found.is_guess
    assert all(found.family_words in words for words in (said[0], str(found)))
    assert main(["weights", "list", "--models", str(path.parent)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if str(path) in line)
    assert line.startswith("taesd or taesdxl ")
    with pytest.raises(TaesdError):  # it gets no name that says more
        add_file(path, tmp_path / "models")


def test_the_working_folder_may_tell_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("taesdxl", "taesd"):
        saved(tmp_path / folder / "mine.safetensors")
        monkeypatch.chdir(tmp_path / folder)
        assert used_as(Path("mine.safetensors")) == folder


def test_an_export_says_what_the_file_is_and_not_what_it_is_called(tmp_path: Path) -> None:
    for name, family in (("taesd_xl_anime", "taesdxl"), ("decoder", "decoder")):
        source, made = saved(tmp_path / f"{name}.safetensors"), tmp_path / "made" / f"{family}.safetensors"
        assert main(["export", "--family", str(source), "--part", "decoder", "-o", str(made)]) == 0
        assert open_tensor_file(made).metadata["family"] == family
    assert identify(tmp_path / "made" / "decoder.safetensors").is_guess
