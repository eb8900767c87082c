"""Weights made of random numbers: the pages need files, not beautiful pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from taesd_ext.models.tiny import Decoder, Encoder


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """A folder with taesd_encoder.safetensors and taesd_decoder.safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, (part, network) in enumerate((("encoder", Encoder(4)), ("decoder", Decoder(4)))):
        generator = torch.Generator().manual_seed(seed)
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        state = {key: 0.05 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
        save_file(state, folder / f"taesd_{part}.safetensors")
    return folder


@pytest.fixture
def no_weights(monkeypatch, tmp_path) -> Path:
    """An empty folder, and no other place where weights could lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAESD_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    empty = tmp_path / "empty"
    empty.mkdir()
    return empty
