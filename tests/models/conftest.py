"""diffusers' full-size VAEs in folders, made once for all tests of a file."""

from pathlib import Path

import pytest
from diffusers_vaes import reference, saved
from full_vae_folders import FolderOf
from torch import nn


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """diffusers' small VAE of a kind and the folder that it saved, made once."""
    made: dict[str, tuple[nn.Module, Path]] = {}

    def find(name: str) -> tuple[nn.Module, Path]:
        if name not in made:
            vae = reference(name)
            made[name] = vae, saved(vae, tmp_path_factory.mktemp("vae"))
        return made[name]

    return find
