"""DC-AE against diffusers' AutoencoderDC, from its own folders and from the original layout."""

import gc
import json
import os
from pathlib import Path

import pytest
import torch
from full_vae_files import dc_in_original_layout
from full_vae_reference import (
    LARGEST_ERROR,
    assert_equal,
    decoded,
    encoded,
    latent_like,
    make_up,
    picture,
    relative_error,
    saved,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taesd_ext import load_codec
from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.errors import TaesdError
from taesd_ext.weights import vae_table
from taesd_ext.weights.catalog import AUTOENCODER_DC, CATALOG
from taesd_ext.weights.identify import Identity
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.vae_file import find_layout, find_networks
from taesd_ext.weights.vae_table import VAE_BY_NAME, VAES, NamedVAE

diffusers = pytest.importorskip("diffusers")

BIG = "TAESD_TEST_BIG"
"""Set to 1 to run the networks of true size that need up to 8 GB of memory."""

ROWS = [row for row in VAES if row.network == AUTOENCODER_DC]
STRUCTURES = [row for row in ROWS if "-mix-" not in row.name]
WIDTHS = (128, 256, 512, 512, 1024, 1024, 2048, 2048)
SMALL_WIDTHS = (16, 16, 16, 32, 64, 128, 256, 512)

State = dict[str, Tensor]


def config_of(row: NamedVAE, widths: tuple[int, ...] = WIDTHS, most_blocks: int = 99) -> dict:
    """diffusers' settings of a published variant, or of a smaller network of the same structure."""
    sizes = row.latent_format.spatial_scale_factor.bit_length()
    late = range(3, sizes)
    common = {
        "latent_channels": row.latent_format.latent_channels,
        "scaling_factor": row.latent_format.scaling_factor,
        "downsample_block_type": "conv" if row.plain else "pixel_unshuffle",
        "upsample_block_type": "interpolate" if row.plain else "pixel_shuffle",
        "decoder_norm_types": ["rms_norm" if row.plain else "batch_norm"] * 3 + ["rms_norm" for _ in late],
        "decoder_act_fns": ["silu" if row.plain else "relu"] * 3 + ["silu" for _ in late],
    }
    blocks = {
        "encoder": (2, 2, 2, 3, 3, 3) if row.plain else (0, 4, 8, *(2 for _ in late)),
        "decoder": (3, 3, 3, 3, 3, 3) if row.plain else (0, 5, 10, *(2 for _ in late)),
    }
    for part in ("encoder", "decoder"):
        common |= {
            f"{part}_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock" for _ in late],
            f"{part}_block_out_channels": list(widths[:sizes]),
            f"{part}_layers_per_block": [min(count, most_blocks) for count in blocks[part]],
            f"{part}_qkv_multiscales": [()] * 3 + [(5,) if row.plain else () for _ in late],
        }
    return common


def reference(settings: dict, seed: int = 0) -> nn.Module:
    with torch.device("meta"):
        vae = diffusers.AutoencoderDC(**settings)
    return make_up(vae.to_empty(device="cpu"), seed)


def small(row: NamedVAE) -> nn.Module:
    return reference(config_of(row, SMALL_WIDTHS, most_blocks=1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_small_networks_equal_diffusers_from_its_own_folder(row: NamedVAE, tmp_path: Path) -> None:
    vae = small(row)
    codec = load_codec(saved(vae, tmp_path))
    assert (codec.name, codec.format.name) == (row.name, row.format_name)
    assert codec.latent_channels == row.latent_format.latent_channels
    assert codec.spatial_scale_factor == vae.spatial_compression_ratio
    # Above 32 positions attention is multiplied from the other side.
    assert_equal(codec, vae, 2, 3, batch=2)
    if codec.spatial_scale_factor < 128:
        assert_equal(codec, vae, 6, 7)


@pytest.mark.parametrize("row", STRUCTURES, ids=lambda row: row.name)
def test_tiles_equal_diffusers(row: NamedVAE, tmp_path: Path) -> None:
    vae = small(row)
    factor = vae.spatial_compression_ratio
    tile, stride = (4 * factor, 3 * factor), (3 * factor, 2 * factor)
    vae.enable_tiling(*tile, *stride)
    codec = load_codec(saved(vae, tmp_path))
    codec.encoder.tiler = codec.decoder.tiler = BlendedTiler(factor, tile, stride, whole_pixels=0, spread=False)
    assert_equal(codec, vae, 5, 4)


big = pytest.mark.skipif(os.environ.get(BIG) != "1", reason=f"needs up to 8 GB of memory; {BIG}=1 runs it")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "dc-ae-f32c32-sana-1.0",
        *(pytest.param(f"dc-ae-{kind}-1.0", marks=big) for kind in ("f32c32-mix", "f64c128-in", "f128c512-mix")),
    ],
)
def test_true_sizes_equal_diffusers(name: str, tmp_path: Path) -> None:
    row = VAE_BY_NAME[name]
    vae = reference(config_of(row))
    factor = vae.spatial_compression_ratio
    image, latent = picture(factor, factor), torch.randn(1, row.latent_format.latent_channels, 1, 1)
    expected = encoded(vae, image), decoded(vae, latent)
    saved(vae, tmp_path)
    # The two networks are never in memory together.
    del vae
    gc.collect()
    try:
        codec = load_codec(tmp_path)
        assert codec.name == name
        assert relative_error(codec.encode(image), expected[0]) <= LARGEST_ERROR
        assert relative_error(codec.decode(latent), expected[1]) <= LARGEST_ERROR
    finally:
        for file in tmp_path.glob("*.safetensors"):
            file.unlink()


@pytest.mark.parametrize("row", STRUCTURES, ids=lambda row: row.name)
def test_networks_tell_their_own_shape(row: NamedVAE, tmp_path: Path) -> None:
    """From every tensor of the published structure, at its true widths and at smaller ones."""
    for settings in (config_of(row), config_of(row, SMALL_WIDTHS, most_blocks=2)):
        with torch.device("meta"):
            theirs = diffusers.AutoencoderDC(**settings).state_dict()
        file = TensorFile(tmp_path / "x", {key: tuple(value.shape) for key, value in theirs.items()}, {}, None)
        found = find_networks(file, *find_layout(file), {})
        ours = [value for network, _ in found.values() for value in network.state_dict().values()]
        assert sum(value.numel() for value in ours) == sum(value.numel() for value in theirs.values())
        for network, _ in found.values():
            assert (network.latent_channels, network.spatial_scale_factor, network.plain) == (
                row.latent_format.latent_channels, row.latent_format.spatial_scale_factor, row.plain
            )  # fmt: skip
            shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
            with torch.device("meta"):
                again = type(network)(**network.arguments_of(shapes)).state_dict()
            assert {key: tuple(value.shape) for key, value in again.items()} == shapes


@pytest.mark.parametrize("row", STRUCTURES, ids=lambda row: row.name)
def test_key_tables_agree_with_diffusers_converter(row: NamedVAE, tmp_path: Path) -> None:
    """Our original keys, read by diffusers' converter, are the very weights again: the table holds both ways."""
    from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers

    vae = small(row)
    back = convert_autoencoder_dc_checkpoint_to_diffusers(dc_in_original_layout(saved(vae, tmp_path)))
    state = vae.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("row", STRUCTURES, ids=lambda row: row.name)
def test_the_original_layout(row: NamedVAE, tmp_path: Path) -> None:
    vae = small(row)
    path = tmp_path / "model.safetensors"
    save_file(dc_in_original_layout(saved(vae, tmp_path / "vae")), path)
    codec = load_codec(path, variant=row.name)
    assert codec.name == row.name
    assert_equal(codec, vae, 2, 2)


class TestVariants:
    """`in` and `mix` are told apart by evidence, never by a guess."""

    NAMES = ("dc-ae-f32c32-in-1.0", "dc-ae-f32c32-mix-1.0")

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "x" / "model.safetensors"
        path.parent.mkdir()
        save_file(dc_in_original_layout(saved(small(VAE_BY_NAME[self.NAMES[0]]), tmp_path / "vae")), path)
        return path

    def test_without_evidence(self, file: Path) -> None:
        with pytest.raises(TaesdError, match=r"variant=.*in-1\.0 or dc-ae-f32c32-mix-1\.0"):
            load_codec(file)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("evidence", ["user", "config", "name"])
    def test_evidence(self, name: str, evidence: str, file: Path) -> None:
        if evidence == "config":
            (file.parent / "config.json").write_text(json.dumps({"model_name": name}))
        if evidence == "name":
            file = file.rename(file.with_name(f"{name}.safetensors"))
        codec = load_codec(file, variant=name if evidence == "user" else None)
        assert (codec.name, codec.format) == (name, VAE_BY_NAME[name].latent_format)

    def test_the_user_is_wrong(self, file: Path) -> None:
        with pytest.raises(TaesdError, match="another VAE"):
            load_codec(file, variant="dc-ae-f64c128-in-1.0")

    def test_the_checksum(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        official = next(row for row in CATALOG if row.family == self.NAMES[1])
        monkeypatch.setattr(vae_table, "identify", lambda path, **_: Identity(path, 1, official))
        assert load_codec(file).name == self.NAMES[1]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"decoder_act_fns": ["gelu"] * 6}, "decoder_act_fns"),
        ({"decoder_in_shortcut": False}, "decoder_in_shortcut"),
        ({"scaling_factor": 0.7}, "Say which"),
    ],
)
def test_what_no_published_network_has_is_refused(wrong: dict, why: str, tmp_path: Path) -> None:
    folder = saved(small(VAE_BY_NAME["dc-ae-f32c32-in-1.0"]), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(TaesdError, match=why):
        load_codec(folder)


def test_a_folder_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    folder = saved(small(VAE_BY_NAME["dc-ae-f32c32-sana-1.0"]), tmp_path)
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["decoder.up_blocks.3.1.attn.to_k.weight"]
    save_file(state, path)
    with pytest.raises(TaesdError, match="to_q"):
        load_codec(folder)


def test_it_cannot_sample_and_computes_in_half_precision(tmp_path: Path) -> None:
    codec = load_codec(saved(small(VAE_BY_NAME["dc-ae-f32c32-sana-1.0"]), tmp_path), dtype=torch.bfloat16)
    with pytest.raises(TaesdError):
        codec.encode(picture(32, 32), sample=1)
    latent = latent_like(codec, 6, 6)
    assert relative_error(codec.decode(latent), codec.in_float32().decode(latent)) < 0.2
