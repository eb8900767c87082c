"""What the forks do differently, each in the fake host: options, models, latents, and who calls with what."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from random_weights import save_taew2_1

from taesd_ext import load_codec
from taesd_ext.host import register
from taesd_ext.host.webui import webui
from taesd_ext.settings import OPTIONS

TAESD = 3


def latent_format(name, decoder_name=None):
    return type(name, (), {"taesd_decoder_name": decoder_name})()


def decode(host, sample, approximation=TAESD):
    return host.sd_samplers_common.samples_to_images_tensor(sample, approximation)


# Options


def test_neos_sections_and_tuples_of_choices(bare_host):
    """Neo calls the section of the previews otherwise, and its choices cannot be changed in place."""
    labels = bare_host.opts.data_labels
    for key in ("show_progress_type", "live_previews_enable"):
        labels[key].section = ("preview", "Live Previews")
    labels["show_progress_type"].component_args = {"choices": ("Approx NN", "RGB", "TAESD")}
    bare_host.load_scripts()
    sections = {option.section: labels[option.key].section for option in OPTIONS if not option.advanced}
    assert sections == {"previews": ("preview", "Live Previews"), "vae": ("vae", "VAE")}
    (folded,) = {labels[option.key].section for option in OPTIONS if option.advanced}
    assert folded not in sections.values()
    assert labels["show_progress_type"].component_args == {"choices": ("Approx NN", "RGB", "TAESD")}


@pytest.mark.parametrize(
    ("component_args", "offers_files"),
    [(lambda: {"choices": ["Automatic"]}, True), (None, False), ({"choices": ("Automatic",)}, False)],
    ids=["A1111, reForge, Classic", "Forge", "Neo"],
)
def test_the_sd_vae_setting_is_in_force_where_it_offers_files(host, monkeypatch, component_args, offers_files):
    monkeypatch.setitem(sys.modules, "modules.sd_vae", SimpleNamespace(refresh_vae_list=lambda: None))
    host.opts.data_labels["sd_vae"] = SimpleNamespace(default="Automatic", component_args=component_args)
    assert webui().has_sd_vae is offers_files


# Models


def test_forge_has_a_stand_in_for_a_model_before_the_first_generation(host, extension):
    stand_in = type("FakeInitialModel", (), {"cond_stage_model": None, "chunk_length": 75})
    host.sd_models.model_data.sd_model = stand_in()
    assert webui().model() is None
    host.sd_models.model_data.sd_model = SimpleNamespace()
    assert webui().model() is not None
    assert "does not say" in extension.host.detection().reason
    assert extension.host.detection((1, 48, 4, 4)).family == "taew2_2"


@pytest.mark.parametrize(
    ("where", "model_format", "flags", "channels", "family"),
    [
        ("unet", latent_format("SDXL_Flux2"), {"is_sdxl": True}, 32, "taef2"),  # reForge
        ("unet", latent_format("SDXL", "taesdxl_decoder"), {"is_sdxl": True}, 4, "taesdxl"),
        ("config", latent_format("Flux"), {}, 16, "taef1"),  # Forge: no decoder's name
        ("config", latent_format("Chroma"), {}, 16, "taef1"),
        ("config", latent_format("Flux2", "taef2_decoder"), {}, 128, "taef2"),  # Neo
        ("config", latent_format("QwenImage21", "taeqi2_1_decoder"), {}, 64, "taeqi2_1"),
        ("none", None, {"is_sd1": True}, 4, "taesd"),  # Classic
        ("none", None, {"is_sdxl": True}, 32, None),
    ],
)
def test_families_by_what_each_fork_says(host, extension, where, model_format, flags, channels, family):
    host.load_model(channels=channels, **flags)
    for flag in ("is_sd2", "is_sd3", "is_ssd"):  # absent in some
        vars(host.model).pop(flag, None)
    config = SimpleNamespace(latent_format=model_format)
    vae = SimpleNamespace(latent_channels=channels)
    if where == "config":
        host.model.model_config = config
    unet = SimpleNamespace(model=SimpleNamespace(model_config=config if where == "unet" else None))
    host.model.forge_objects = SimpleNamespace(unet=unet, vae=vae)
    assert extension.host.detection((1, channels, 4, 4)).family == family


# Latents


def test_the_whole_batch_comes_in_one_call(host):
    latent = torch.randn(3, 4, 4, 6)
    expected = load_codec("taesd", models_dir=host.folder).decode(latent) * 2 - 1
    assert torch.allclose(decode(host, latent), expected, atol=1e-5)


def test_everything_runs_under_inference_mode(host):
    """Forge decodes under it, in previews and after: what was loaded there must go on to work outside."""
    with torch.inference_mode():
        latent = torch.randn(1, 4, 4, 4)
        preview = decode(host, latent, None)
        inside = decode(host, latent)
    assert not preview.is_inference()
    assert not inside.is_inference()
    outside = decode(host, latent.clone().requires_grad_(False))
    assert torch.equal(inside, outside)
    assert not outside.requires_grad


@pytest.fixture
def wan(host):
    save_taew2_1(host.folder)
    host.load_format("Wan21", 16, taesd_decoder_name="taew2_1")
    return load_codec("taew2_1", models_dir=host.folder)


def test_a_still_of_a_video_model_keeps_its_time_axis(host, wan):
    latent = torch.randn(1, 16, 1, 4, 6)
    image = wan.decode(latent)
    assert torch.allclose(decode(host, latent), image * 2 - 1, atol=1e-5)
    assert host.sd_samplers_common.images_tensor_to_samples(image, TAESD).shape == latent.shape


def test_a_film_is_left_to_the_host_and_previewed_by_its_first_frame(host, wan):
    latent = torch.randn(1, 16, 3, 4, 6)
    theirs = host.sd_samplers_common.samples_to_images_tensor.__wrapped__
    assert torch.equal(decode(host, latent), theirs(latent, TAESD))
    preview = decode(host, latent, None)
    assert preview.shape == (1, 1, 3, 32, 48)
    assert torch.allclose(preview[:, 0], wan.decode(latent) * 2 - 1, atol=0.02)


def test_without_its_decoder_a_video_model_has_the_linear_preview(host, wan):
    (host.folder / "taew2_1.safetensors").unlink()
    register.register().registry.release()
    preview = decode(host, torch.randn(1, 16, 1, 4, 6), None)
    assert preview.shape[:2] == (1, 3)
    assert preview.isfinite().all()


# Hosts that cannot be helped


def test_sd_next_is_refused_in_one_line(bare_host, caplog):
    del bare_host.sd_samplers_common.samples_to_images_tensor
    Path("installer.py").touch()
    with caplog.at_level(logging.WARNING):
        bare_host.run_entry()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "SD.Next is not supported" in lines[0]
    assert bare_host.script.show(False) is False
