"""The real trained weights against published and golden outputs."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from taesd_ext import load_codec
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.picture_file import read_picture


@pytest.mark.parametrize("crop", ["astronaut_256x192", "coffee_128x160"])
def test_taef2_equals_the_golden_outputs(crop: str, weights_dir: Path, reference_dir: Path) -> None:
    golden = load_file(reference_dir / "taef2_golden.safetensors")
    codec = load_codec("taef2", models_dir=weights_dir)
    image = golden[f"{crop}.image_u8"].float() / 255
    latent = golden[f"{crop}.latent"]
    assert (codec.encode(image) - latent).abs().max() <= 1e-4
    assert (codec.decode(latent) - golden[f"{crop}.decoded"].clamp(0, 1)).abs().max() <= 1e-4


def test_taesd_equals_the_published_notebook(weights_dir: Path, reference_dir: Path) -> None:
    """Values and picture of the official Encoding_and_Decoding notebook (TAESD 1.3; made on MPS, 8-bit)."""
    codec = load_codec("taesd", models_dir=weights_dir)
    latent = codec.encode(read_picture(reference_dir / "notebook_input.png"))
    found = [value.item() for value in (latent.min(), latent.mean(), latent.max())]
    assert found == pytest.approx([-4.7688, 0.2164, 5.8613], abs=0.05)
    decoded = codec.decode(latent).mul(255).round().div(255)
    assert psnr(decoded, read_picture(reference_dir / "notebook_decoded_taesd_1.3.png")) >= 50
