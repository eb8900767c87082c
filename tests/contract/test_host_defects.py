"""Defects of the hosts' built-in TAESD: each shown on the host's own functions, and gone with the extension.

The functions are taken out of the source of the WebUI in WEBUI_DIR and put into the fake host, where the extension
wraps them as it does in the real one.
"""

import functools
import os
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from extracted import extract
from host_contract import COMMON, LATENT_FORMATS
from host_source import HostSource
from random_weights import save_taef2
from torch import Tensor

from taesd_ext import load_codec
from taesd_ext.host import register
from taesd_ext.latent_formats import pack

TAESD = 3
LATENT = torch.randn(2, 16, 6, 5, generator=torch.Generator().manual_seed(0))


def only(source: HostSource, *kinds: str) -> None:
    if source.kind not in kinds:
        pytest.skip(f"this defect is {' and '.join(kinds)}'s")


@pytest.fixture
def bare_host(bare_host, source):
    """The fake host decodes by the real one's functions; ``bare_host.tiny`` is what its built-in TAESD loads."""
    opts = bare_host.opts
    opts.data.update(sd_vae_checkpoint_cache=1, show_progress_type="TAESD")
    bare_host.tiny = lambda latent: latent.new_zeros(len(latent), 3, *(8 * side for side in latent.shape[-2:]))
    names = {
        "reforge": ("_pca_cache", "_pca_project_latent"),
        "classic": ("get_decoder",),
    }
    extract(
        source, COMMON, "approximation_indexes", "samples_to_images_tensor", "single_sample_to_image",
        "sample_to_image", *names.get(source.kind, ()), into=vars(bare_host.sd_samplers_common),
        devices=SimpleNamespace(device="cpu", dtype=torch.float32, dtype_vae=torch.float32),
        sd_vae_taesd=SimpleNamespace(decoder_model=lambda: bare_host.tiny),
        torch=torch, np=np, lru_cache=functools.lru_cache, Callable=Callable,
    )  # fmt: skip
    return bare_host


def functions(host) -> tuple:
    """The host's own function below ours, and ours."""
    ours = host.sd_samplers_common.samples_to_images_tensor
    return ours.__wrapped__, ours


def codec(host, family: str):
    return load_codec(family, models_dir=host.folder)


def shown(image: Tensor) -> Tensor:
    return image * 2 - 1


@pytest.mark.parametrize("approximation", [TAESD, None], ids=["final picture", "preview"])
def test_reforge_draws_16_channels_by_a_random_projection(source, host, approximation):
    only(source, "reforge")
    host.load_model(is_sd3=True, channels=16)
    theirs, ours = functions(host)
    assert theirs(LATENT, approximation).shape[-2:] == LATENT.shape[-2:], "a false-colour map of the latent's size"
    expected = shown(codec(host, "taesd3").decode(LATENT))
    # Previews take the precision that is quickest on this machine.
    assert torch.allclose(ours(LATENT, approximation), expected, atol=1e-5 if approximation else 0.02)


def test_classic_keeps_the_decoder_of_the_model_before(source, host):
    only(source, "classic")
    latent = LATENT[:, :4].contiguous()
    theirs, ours = functions(host)
    host.load_model(is_sd1=True)
    assert theirs(latent, TAESD).unique().tolist() == [-1.0]
    assert torch.allclose(ours(latent, TAESD), shown(codec(host, "taesd").decode(latent)), atol=1e-5)
    host.load_model(is_sdxl=True)
    host.tiny = torch.ones_like
    assert theirs(latent, TAESD).unique().tolist() == [-1.0], "still the first model's"
    assert torch.allclose(ours(latent, TAESD), shown(codec(host, "taesdxl").decode(latent)), atol=1e-5)


def test_forges_flux_format_names_no_decoder(source, host):
    only(source, "forge")
    host.load_model(channels=16)
    latent_format = extract(source, LATENT_FORMATS["forge"], "LatentFormat", "SD3", "Flux", torch=torch)["Flux"]()
    assert latent_format.taesd_decoder_name is None
    host.model.model_config = SimpleNamespace(latent_format=latent_format)
    detection = register.register().host.detection(tuple(LATENT.shape))
    assert detection.family == "taef1", detection.reason


def test_neo_folds_the_picture_before_it_encodes_for_flux2(source, host):
    only(source, "neo")
    save_taef2(host.folder)
    flux2 = codec(host, "taef2")
    names = ("conv", "Clamp", "Block", "encoder", "TAESDEncoder")
    namespace = extract(
        source, "modules/sd_vae_taesd.py", *names, torch=torch, nn=torch.nn, os=os,
        load_torch_file=lambda path: flux2.encoder.state_dict(),
        load_state_dict=lambda module, loaded: module.load_state_dict(loaded),
    )  # fmt: skip
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with pytest.raises(RuntimeError):
        namespace["TAESDEncoder"]("taef2.pth", 128).eval()(image)
    host.load_format("Flux2", 128, taesd_decoder_name="taef2_decoder")
    latent = host.sd_samplers_common.images_tensor_to_samples(image, TAESD)
    assert latent.shape == (1, 128, 4, 6)
    assert torch.allclose(latent, pack(flux2.encode(image)), atol=1e-5)
