"""The embedded codecs: told apart, in place of missing files only, and as good as is said."""

from pathlib import Path

import pytest
import torch
from random_weights import random_weights
from safetensors.torch import save_file

from taesd_ext import load_codec
from taesd_ext.codec import embedded
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.metrics import psnr
from taesd_ext.codec.picture_file import read_picture
from taesd_ext.codec.previewer import load_previewer, read_previewer
from taesd_ext.latent_formats import BY_NAME, native_format
from taesd_ext.models import tiny
from taesd_ext.models.student import SmallDecoder, SmallEncoder
from taesd_ext.weights.installed import NoWeights

SHIPPED = embedded.embedded_families()
MOST_LOST = {"taesd": 3.5, "taesdxl": 3.7, "taesd3": 2.9, "taef1": 2.1, "taef2": 5.6}
"""dB that a photograph loses by the embedded encoder; docs/numbers.md has what 26 of them lose on average."""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder of weights, and an embedded codec of random weights for SD 1 alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedded, "DATA", tmp_path)
    encoder, decoder = SmallEncoder(4), SmallDecoder(read_previewer("sd1"))
    for network in (encoder, decoder):
        own = {name: value for name, value in random_weights(network).items() if not name.startswith("previewer.")}
        network.load_state_dict(own, strict=False)
    embedded.save_embedded(encoder, decoder, tmp_path / "codec_sd1.safetensors", "sd1")
    models = tmp_path / "models"
    models.mkdir()
    return models


def put(folder: Path, part: str) -> None:
    network = tiny.Encoder() if part == "encoder" else tiny.Decoder()
    save_file(random_weights(network), folder / f"taesd_{part}.safetensors")


def test_files_take_the_place_of_the_embedded_parts(folder: Path) -> None:
    def load() -> Codec:
        return load_codec("taesd", models_dir=folder)

    assert load().source.embedded == ("encoder", "decoder")
    assert load().title == "taesd (embedded)"
    put(folder, "decoder")
    assert load().source.embedded == ("encoder",)
    assert load().title == "taesd (embedded encoder)"
    assert not load_codec("taesd", models_dir=folder, embedded=False).has_encoder
    put(folder, "encoder")
    assert load().source.embedded == ()
    assert load().title == "taesd"
    assert load_codec("taesd-embedded", models_dir=folder).source.embedded == ("encoder", "decoder")


def test_none_where_none_is_wanted_or_shipped(folder: Path) -> None:
    for family, wanted in (("taesd", False), ("taef1", True), ("taef1-embedded", True)):
        with pytest.raises(NoWeights):
            load_codec(family, models_dir=folder, embedded=wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_there_and_back(folder: Path, dtype: torch.dtype) -> None:
    codec = load_codec("taesd", models_dir=folder, dtype=dtype)
    image = torch.rand(2, 3, 44, 61)
    before = image.clone()
    latent = codec.encode(image)
    assert latent.shape == (2, 4, 6, 8)
    assert torch.equal(image, before)
    before = latent.clone()
    assert codec.decode(latent, size=(44, 61)).shape == image.shape
    assert torch.equal(latent, before)
    small = codec.decode(latent.float(), detail="1/4")
    narrow = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert torch.allclose(small, load_previewer("sd1", dtype=dtype)(latent.float()), atol=narrow)
    assert codec.details == ("1/4", "full")


@pytest.mark.parametrize("family", SHIPPED)
def test_shipped_and_small(family: str) -> None:
    path = embedded.embedded_file(native_format(family))
    state = embedded.read_shipped(path)
    for part in ("encoder", "decoder"):
        assert sum(2 * value.numel() for name, value in state.items() if name.startswith(f"{part}.")) <= 400e3
    assert path.with_suffix(".log").is_file(), "the log says how it was made"


@pytest.mark.parametrize("family", SHIPPED)
def test_on_a_photograph(family: str, weights_dir: Path, reference_dir: Path) -> None:
    photo = read_picture(reference_dir / "notebook_input.png")[..., 128:384, 128:384]
    real, small = load_codec(family, models_dir=weights_dir), load_codec(f"{family}-embedded")
    latent = real.encode(photo)
    wanted = real.decode(latent)
    preview = torch.nn.functional.interpolate(load_previewer(real.format.name)(latent), scale_factor=4, mode="bicubic")
    assert psnr(small.decode(latent), wanted) > psnr(preview.clamp(0, 1), wanted)
    assert psnr(real.decode(small.encode(photo)), photo) > psnr(wanted, photo) - MOST_LOST[family]


@pytest.mark.parametrize("name", ["sd1", "flux1", "flux2"])
def test_the_decoder_costs_little(name: str) -> None:
    """Multiplications for a latent position, against those of the tiny decoder."""
    previewer = read_previewer(name)
    small = _multiplications(SmallDecoder(previewer), previewer.latent_channels)
    assert small < 0.06 * _multiplications(tiny.Decoder(previewer.latent_channels), BY_NAME[name].latent_channels)


def _multiplications(network: torch.nn.Module, channels: int, side: int = 4) -> float:
    found = []

    def count(layer: torch.nn.Conv2d, forward):
        def counted(x: torch.Tensor) -> torch.Tensor:
            result = forward(x)
            found.append(result[0, 0].numel() * layer.weight.numel())
            return result

        return counted

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.forward = count(layer, layer.forward)
    network(torch.zeros(1, channels, side, side))
    return sum(found) / side**2
