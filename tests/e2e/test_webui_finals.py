"""TAESD as the VAE in a real WebUI: the codec's own output, bit for bit, and truthful parameters."""

import os
import subprocess

import numpy as np
import pytest
import torch
from webui_server import HIRES, ROOT, as_base64

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RUN = """
import sys, torch
from taesd_ext import load_codec
family, weights, method, given, made = sys.argv[1:]
codec = load_codec(family, models_dir=weights)
torch.save(getattr(codec, method)(torch.load(given)), made)
"""


@pytest.fixture
def codec(webui, shared, tmp_path):
    """The codec in a process of its own with the WebUI's Python: bits depend on the version of torch."""

    def run(family, method, tensor):
        given, made = tmp_path / "given.pt", tmp_path / "made.pt"
        torch.save(tensor.contiguous(), given)
        command = [webui.python, "-c", RUN, family, str(shared / "weights"), method, str(given), str(made)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return torch.load(made, weights_only=True)

    return run


def levels(image):
    """A1111's arithmetic from a decoder's picture in [0,1] to bytes, which it cuts."""
    shown = ((image * 2 - 1 + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return (255.0 * shown).astype(np.uint8)[0]


@pytest.fixture
def taesd_vae(webui):
    webui.set_options(sd_vae_decode_method="TAESD", sd_vae_encode_method="TAESD")
    return webui


@pytest.mark.parametrize("family", ["taesd", "taesdxl", "taesd3", "taef2"])
def test_final_decode_is_the_codecs(taesd_vae, codec, family):
    if family not in taesd_vae.host.checkpoints:
        pytest.skip("no such checkpoint that this host takes")
    scheduler = "Simple" if family == "taesd3" else "Automatic"  # which makes NaN of flow models in Forge
    taesd_vae.choose_checkpoint(family)
    result = taesd_vae.generate(batch_size=2, scheduler=scheduler)
    sampled = taesd_vae.recorded("sampled")
    # Hosts decode a batch together or one by one; torch sums small pictures that are alone in another order.
    together = codec(family, "decode", sampled)
    alone = torch.cat([codec(family, "decode", one) for one in sampled.split(1)])
    shown = [np.asarray(image) for image in result.images[-2:]]
    assert any(
        all(np.array_equal(image, levels(wanted[None])) for image, wanted in zip(shown, expected, strict=True))
        for expected in (together, alone)
    )
    assert set(result.families) == {family}
    assert "VAE Decoder: TAESD" in result.infotext
    assert f"TAESD model: {family} decoder " in result.infotext


def test_encode_is_the_codecs(taesd_vae, codec, scene):
    result = taesd_vae.generate("img2img", init_images=[as_base64(scene)], denoising_strength=0.5)
    image = torch.from_numpy(np.asarray(scene).astype(np.float32) / 255.0).permute(2, 0, 1)[None]
    assert torch.equal(taesd_vae.recorded("encoded"), codec("taesd", "encode", image))
    assert "VAE Encoder: TAESD" in result.infotext
    assert "taesd encoder " in result.infotext


def test_hires_fix_is_recorded(taesd_vae):
    for upscaler in ("Latent", "Lanczos"):
        result = taesd_vae.generate(**{**HIRES, "hr_upscaler": upscaler})
        assert result.images[0].size == (256, 256)
        assert "VAE Decoder: TAESD" in result.infotext
        assert "TAESD model: taesd decoder " in result.infotext
        assert ("VAE Encoder: TAESD" in result.infotext) == (upscaler == "Lanczos")


def decoders_of(result):
    """In their order. While a new one is being loaded a frame may come from the embedded previewer: nobody waits."""
    return [family for family in dict.fromkeys(result.families) if family]


def test_the_family_follows_the_hires_checkpoint(taesd_vae):
    result = taesd_vae.generate(**HIRES, hr_checkpoint_name=taesd_vae.host.checkpoints["taesdxl"])
    assert result.error is None
    assert decoders_of(result) == ["taesd", "taesdxl"]
    assert "taesdxl decoder" in result.infotext
    assert "taesdxl encoder" in result.infotext


def test_the_family_follows_the_refiner(webui):
    if not webui.host.refines:
        pytest.skip("this host's refiner is of the checkpoint's own kind")
    result = webui.generate(steps=12, refiner_checkpoint=webui.host.checkpoints["taesdxl"], refiner_switch_at=0.5)
    assert result.error is None
    assert decoders_of(result) == ["taesd", "taesdxl"]


def test_missing_weights_are_an_error_or_the_full_vae(taesd_vae):
    taesd_vae.set_options(taesd_ext_family="taesana")
    result = taesd_vae.generate()
    assert "taesana" in str(result.error)
    taesd_vae.set_options(taesd_ext_decode_failure="full VAE")
    result = taesd_vae.generate()
    assert result.error is None
    assert "VAE Decoder" not in result.infotext
    assert "TAESD model" not in result.infotext
