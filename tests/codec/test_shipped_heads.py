"""The heads that are shipped, on the weights that they were made for."""

import pytest
from torch.nn import functional

from taesd_ext import load_codec
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import SCALES, shipped_heads
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.picture_file import read_picture
from taesd_ext.weights.tiny_file import read_tiny

FAMILIES = ("taesd", "taesdxl", "taesd3", "taef1", "taef2")
AT_LEAST = {"1/8": 27.0, "1/4": 28.0, "1/2": 32.0}
"""dB that the worst of the photographs used in the development had to reach."""


@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_with_their_log(family: str) -> None:
    path = shipped_heads(family)
    assert path.stat().st_size < 512 * 1024
    assert "held back" in path.with_suffix(".log").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_photograph_at_every_detail(family: str, weights_dir, reference_dir) -> None:
    codec = load_codec(family, models_dir=weights_dir)
    assert codec.details == ("1/8", "1/4", "1/2", "full")
    latent = codec.encode(read_picture(reference_dir / "notebook_input.png")[..., 128:384, 128:384])
    full = codec.decode(latent)
    for detail, least in AT_LEAST.items():
        image = codec.decode(latent, detail=detail)
        assert psnr(image, functional.avg_pool2d(full, SCALES[detail])).item() > least


@pytest.mark.parametrize(("family", "other"), [("taesd", "taesdxl"), ("taesd3", "taef1")])
def test_another_decoder_of_the_same_shape_is_told_apart(family: str, other: str, weights_dir) -> None:
    codec = load_codec(family, models_dir=weights_dir)
    stranger = read_tiny(next(weights_dir.glob(f"{other}_decoder.*")))["decoder"].build()
    assert Codec(family, codec.format, decoder=stranger).details == ("full",)
