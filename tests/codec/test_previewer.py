"""The embedded previewers as they are shipped."""

import pytest
import torch
from torch.nn import functional

from taesd_ext import TaesdError, load_codec
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.picture_file import read_picture
from taesd_ext.codec.previewer import DATA, PREVIEWER_FORMATS, has_previewer, load_previewer
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.latent_rgb import latent_to_rgb

AT_LEAST = {"sd1": 26.0, "sdxl": 27.0, "sd3": 31.0, "flux1": 27.0, "flux2": 29.5}
"""dB on a photograph that no previewer has learnt from, some way below what each one reached."""


@pytest.mark.parametrize("name", PREVIEWER_FORMATS)
def test_shipped_and_small(name: str) -> None:
    path = DATA / f"previewer_{name}.safetensors"
    assert path.stat().st_size <= 300 * 1024
    assert path.with_suffix(".log").is_file(), "the log says how it was made"
    assert has_previewer(name)


@pytest.mark.parametrize("name", PREVIEWER_FORMATS)
def test_gives_a_quarter_of_the_size_of_each_picture_and_leaves_the_latent_alone(name: str) -> None:
    latent = torch.randn(2, BY_NAME[name].latent_channels, 5, 7) * 3
    before, show = latent.clone(), load_previewer(name)
    alone = torch.cat([show(latent[:1]), show(latent[1:])])
    for given in (latent, latent.half(), latent.contiguous(memory_format=torch.channels_last)):
        image = show(given)
        assert image.shape == (2, 3, 10, 14)
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert not image.is_inference()
        assert 0 <= image.min() <= image.max() <= 1
        assert torch.allclose(image, alone, atol=0.02)
    assert torch.equal(latent, before)
    assert psnr(load_previewer(name, dtype=torch.bfloat16)(latent), alone).min() > 35


def test_playground_shares_sdxls() -> None:
    assert has_previewer("playground25")
    assert load_previewer("playground25") is load_previewer("sdxl")


@pytest.mark.parametrize("name", ["sana", "wan21", "nonsense"])
def test_a_format_without_one_is_refused_in_one_line(name: str) -> None:
    assert not has_previewer(name)
    with pytest.raises(TaesdError, match=f"There is no embedded previewer for {name}"):
        load_previewer(name)


@pytest.mark.parametrize("name", PREVIEWER_FORMATS)
def test_a_photograph_is_seen(name: str, weights_dir, reference_dir) -> None:
    codec = load_codec(BY_NAME[name].family, models_dir=weights_dir)
    latent = codec.encode(read_picture(reference_dir / "notebook_input.png")[..., 128:384, 128:384])
    wanted = functional.avg_pool2d(codec.decode(latent), 4)
    quality = psnr(load_previewer(name)(latent), wanted).item()
    assert quality > AT_LEAST[name]
    linear = functional.interpolate(latent_to_rgb(latent, BY_NAME[name].rgb), scale_factor=2, mode="bilinear")
    assert quality > psnr(linear, wanted).item() + 2
