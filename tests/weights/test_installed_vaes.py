"""The list of full-size VAEs: one name for each file, one look at each folder."""

import os
from pathlib import Path

import pytest
import torch
from full_vae_files import write_vae
from safetensors.torch import save_file

from taesd_ext.weights.installed_vaes import installed_vaes_by_name

STEM = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def no_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settle(folder: Path) -> None:
    """As if nothing had changed for long."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            os.utime(path, (1, 1))


def test_files_of_one_name_are_choices_of_their_own(tmp_path: Path) -> None:
    vaes = tmp_path / "models" / "VAE"
    places = {
        "anime": vaes / "anime" / "vae" / STEM,
        "photo": vaes / "photo" / "vae" / STEM,
        "ink": vaes / "ink" / STEM,
        "diffusion_pytorch_model": vaes / STEM,
        "kl": vaes / "kl.safetensors",
        "more/kl": vaes / "more" / "kl.safetensors",
    }
    for path in places.values():
        write_vae(path)
        if path.name == STEM and path.parent != vaes:
            (path.parent / "config.json").write_text("{}")
    write_vae(vaes / "ink" / "diffusion_pytorch_model.fp16.safetensors")
    save_file({"something": torch.zeros(2)}, vaes / "no_vae.safetensors")
    assert installed_vaes_by_name([vaes]) == places


def test_folders_and_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_vae(tmp_path / "VAE" / f"folder{number}" / f"vae{number}.safetensors")
    write_vae(tmp_path / "VAE" / "sdxl_vae.safetensors")
    settle(tmp_path)
    first = installed_vaes_by_name([tmp_path / "VAE"])
    assert len(first) == 4
    assert first["sdxl-vae"] == tmp_path / "VAE" / "sdxl_vae.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("taesd_ext.weights.folders.os.scandir", None)
        patch.setattr("taesd_ext.weights.installed_vaes.open_tensor_file", None)
        assert installed_vaes_by_name([tmp_path / "VAE"]) == first
    write_vae(tmp_path / "VAE" / "folder1" / "late.safetensors")
    assert "late" in installed_vaes_by_name([tmp_path / "VAE"])
    (tmp_path / "VAE" / "folder1" / "late.safetensors").unlink()
    assert installed_vaes_by_name([tmp_path / "VAE"]) == first
