"""Weights for the command line's tests."""

from pathlib import Path

import pytest
import safetensors.torch
from seeded_networks import network_of


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """Both parts of taesd, taesd3 and taef2, and half of taef1; nothing is written there."""
    folder = tmp_path_factory.mktemp("models")
    for family in ("taesd", "taesd3", "taef2", "taef1"):
        for part in ("decoder",) if family == "taef1" else ("encoder", "decoder"):
            state = network_of(family, part).state_dict()
            safetensors.torch.save_file(state, folder / f"{family}_{part}.safetensors")
    return folder
