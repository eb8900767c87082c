"""Weights for the command line's tests."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from taesd_ext.models import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Seeded weights of a taesd encoder and decoder."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        safetensors.torch.save_file(tiny.Encoder(4).state_dict(), folder / "taesd_encoder.safetensors")
        safetensors.torch.save_file(tiny.Decoder(4).state_dict(), folder / "taesd_decoder.safetensors")
    return folder
