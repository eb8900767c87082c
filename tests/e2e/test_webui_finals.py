"""TAESD as the VAE in a real WebUI: the codec's own output, bit for bit, and truthful parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_webui_previews import data_of, scene  # noqa: F401

from taesd_ext import load_codec

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

XL = {"sd_model_checkpoint": "tiny_sdxl.safetensors"}


def latent(webui, name):
    return torch.load(webui.data / "latents" / f"{name}.pt", weights_only=True)


@pytest.fixture
def codec(shared):
    return lambda family: load_codec(family, models_dir=shared / "weights")


def levels(webui, image):
    """The host's arithmetic from a decoder's picture in [0,1] to bytes: A1111 cuts, the Forges round."""
    shown = ((image * 2 - 1 + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return (255.0 * shown).astype(np.uint8)[0]


@pytest.fixture
def taesd_vae(webui):
    webui.set_options(sd_vae_decode_method="TAESD", sd_vae_encode_method="TAESD")
    return webui


@pytest.mark.parametrize(("override", "family"), [({}, "taesd"), (XL, "taesdxl")])
def test_final_decode_is_the_codecs(taesd_vae, codec, override, family):
    if override and taesd_vae.forge:
        pytest.skip("the forks refuse the tiny SDXL checkpoint")
    result = taesd_vae.generate(override_settings=override)
    with torch.backends.mkldnn.flags(enabled=True):
        expected = codec(family).decode(latent(taesd_vae, "sampled"))
    assert np.array_equal(np.asarray(result.images[0]), levels(taesd_vae, expected))
    assert "VAE Decoder: TAESD" in result.infotext
    assert f"TAESD model: {family} decoder " in result.infotext


def test_encode_is_the_codecs(taesd_vae, codec, scene):  # noqa: F811
    result = taesd_vae.generate("img2img", init_images=[data_of(scene)], denoising_strength=0.5)
    image = torch.from_numpy(np.asarray(scene).astype(np.float32) / 255.0).permute(2, 0, 1)[None]
    assert torch.equal(latent(taesd_vae, "encoded"), codec("taesd").encode(image.contiguous()))
    assert "VAE Encoder: TAESD" in result.infotext
    assert "taesd encoder " in result.infotext


def test_hires_fix_is_recorded(taesd_vae):
    for upscaler in ("Latent", "Lanczos"):
        result = taesd_vae.generate(enable_hr=True, hr_scale=2, hr_upscaler=upscaler, denoising_strength=0.7)
        assert result.images[0].size == (256, 256)
        assert "VAE Decoder: TAESD" in result.infotext
        assert "TAESD model: taesd decoder " in result.infotext
        assert ("VAE Encoder: TAESD" in result.infotext) == (upscaler == "Lanczos")


def test_the_family_follows_the_hires_checkpoint(taesd_vae):
    if taesd_vae.forge:
        pytest.skip("needs two checkpoints of different kinds")
    result = taesd_vae.generate(
        enable_hr=True, hr_scale=2, hr_upscaler="Lanczos", denoising_strength=0.7,
        hr_checkpoint_name="tiny_sdxl.safetensors",
    )  # fmt: skip
    assert result.error is None
    assert list(dict.fromkeys(result.families)) == ["taesd", "taesdxl"]
    assert "taesdxl decoder" in result.infotext
    assert "taesdxl encoder" in result.infotext


def test_the_family_follows_the_refiner(webui):
    if webui.forge:
        pytest.skip("needs two checkpoints of different kinds")
    result = webui.generate(steps=12, refiner_checkpoint="tiny_sdxl.safetensors", refiner_switch_at=0.5)
    assert result.error is None
    assert list(dict.fromkeys(result.families)) == ["taesd", "taesdxl"]


def test_missing_weights_are_an_error_or_the_full_vae(taesd_vae):
    taesd_vae.set_options(taesd_ext_family="taesana")
    result = taesd_vae.generate()
    assert "taesana" in str(result.error)
    taesd_vae.set_options(taesd_ext_decode_failure="full VAE")
    result = taesd_vae.generate()
    assert result.error is None
    assert "VAE Decoder" not in result.infotext
    assert "TAESD model" not in result.infotext
