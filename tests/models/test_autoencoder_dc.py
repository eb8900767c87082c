"""DC-AE against diffusers' AutoencoderDC, from its own folders and from the original layout."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import pytest
import torch
from full_vae_reference import LARGEST_ERROR, latent_like, make_up, picture, relative_error
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taesd_ext import load_codec
from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError
from taesd_ext.weights import dc_kind
from taesd_ext.weights.autoencoder_dc_files import DIFFUSERS, ORIGINAL, network_keys
from taesd_ext.weights.catalog import AUTOENCODER_DC, CATALOG
from taesd_ext.weights.dc_kind import architecture_from
from taesd_ext.weights.dc_rows import DC_BY_NAME, DC_VARIANTS, DCVariant
from taesd_ext.weights.identify import Identity

diffusers = pytest.importorskip("diffusers")

BIG = "TAESD_TEST_BIG"
"""Set to 1 to run the networks of true size that need up to 8 GB of memory."""

STRUCTURES = {row.architecture: row for row in DC_VARIANTS}
SMALL_WIDTHS = (16, 16, 16, 32, 64, 128, 256, 512)

State = dict[str, Tensor]


def config_of(row: DCVariant, widths: tuple[int, ...] | None = None, most_blocks: int = 99) -> dict:
    """diffusers' settings of a published variant, or of a smaller network of the same structure."""
    architecture = row.architecture
    settings = {
        "latent_channels": architecture.latent_channels,
        "downsample_block_type": "conv" if architecture.strided else "pixel_unshuffle",
        "upsample_block_type": "interpolate" if architecture.interpolate else "pixel_shuffle",
        "scaling_factor": row.scaling_factor,
        "decoder_norm_types": [stage.norm for stage in architecture.decoder],
        "decoder_act_fns": [stage.activation for stage in architecture.decoder],
    }
    for part, stages in (("encoder", architecture.encoder), ("decoder", architecture.decoder)):
        settings |= {
            f"{part}_block_types": ["EfficientViTBlock" if stage.attention else "ResBlock" for stage in stages],
            f"{part}_block_out_channels": [(widths or SMALL_WIDTHS)[i] for i in range(len(stages))],
            f"{part}_layers_per_block": [min(stage.blocks, most_blocks) for stage in stages],
            f"{part}_qkv_multiscales": [stage.scales for stage in stages],
        }
        if widths is None:
            settings[f"{part}_block_out_channels"] = [stage.width for stage in stages]
    return settings


def reference(settings: dict, seed: int = 0) -> nn.Module:
    with torch.device("meta"):
        vae = diffusers.AutoencoderDC(**settings)
    return make_up(vae.to_empty(device="cpu"), seed)


def small(row: DCVariant) -> nn.Module:
    return reference(config_of(row, SMALL_WIDTHS, most_blocks=1))


def saved(vae: nn.Module, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder


def reference_encode(vae: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return vae.encode(image * 2 - 1).latent * vae.config.scaling_factor


def reference_decode(vae: nn.Module, latent: Tensor) -> Tensor:
    with torch.no_grad():
        return (vae.decode(latent / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def assert_equal(codec: Codec, vae: nn.Module, height: int, width: int, batch: int = 1) -> None:
    """Sides are latent positions."""
    factor = codec.spatial_scale_factor
    image = picture(height * factor, width * factor, batch)
    assert relative_error(codec.encode(image), reference_encode(vae, image)) <= LARGEST_ERROR
    latent = latent_like(codec, height, width, batch)
    decoded = codec.decode(latent)
    assert relative_error(decoded, reference_decode(vae, latent)) <= LARGEST_ERROR
    assert float(decoded.std()) > 0.05, "a flat picture would prove nothing"


@pytest.mark.parametrize("row", DC_VARIANTS, ids=lambda row: row.name)
def test_small_networks_equal_diffusers_from_its_own_folder(row: DCVariant, tmp_path: Path) -> None:
    vae = small(row)
    codec = load_codec(saved(vae, tmp_path))
    assert (codec.name, codec.format.name) == (row.name, row.format_name)
    assert codec.latent_channels == row.architecture.latent_channels
    assert codec.spatial_scale_factor == vae.spatial_compression_ratio
    # Above 32 positions attention is multiplied from the other side.
    assert_equal(codec, vae, 2, 3, batch=2)
    if codec.spatial_scale_factor < 128:
        assert_equal(codec, vae, 6, 7)


@pytest.mark.parametrize("row", STRUCTURES.values(), ids=lambda row: row.name)
def test_tiles_equal_diffusers(row: DCVariant, tmp_path: Path) -> None:
    vae = small(row)
    factor = vae.spatial_compression_ratio
    tile, stride = (4 * factor, 3 * factor), (3 * factor, 2 * factor)
    vae.enable_tiling(*tile, *stride)
    codec = load_codec(saved(vae, tmp_path))
    codec.encoder.tiler = codec.decoder.tiler = BlendedTiler(factor, tile, stride, whole_pixels=0, spread=False)
    assert_equal(codec, vae, 5, 4)


def test_slicing_changes_nothing(tmp_path: Path) -> None:
    codec = load_codec(saved(small(DC_VARIANTS[0]), tmp_path))
    latent = latent_like(codec, 2, 3, batch=3)
    one_by_one = codec.decode(latent)
    assert torch.equal(one_by_one[1:2], codec.decode(latent[1:2]))
    codec.decoder.slicing = False
    assert relative_error(codec.decode(latent), one_by_one) <= LARGEST_ERROR


def true_size(name: str, folder: Path) -> None:
    row = DC_BY_NAME[name]
    vae = reference(config_of(row))
    factor = vae.spatial_compression_ratio
    image, latent = picture(factor, factor), torch.randn(1, row.architecture.latent_channels, 1, 1)
    expected = reference_encode(vae, image), reference_decode(vae, latent)
    saved(vae, folder)
    # The two networks are never in memory together.
    del vae
    gc.collect()
    try:
        codec = load_codec(folder)
        assert codec.name == name
        assert relative_error(codec.encode(image), expected[0]) <= LARGEST_ERROR
        assert relative_error(codec.decode(latent), expected[1]) <= LARGEST_ERROR
    finally:
        for file in folder.glob("*.safetensors"):
            file.unlink()


@pytest.mark.slow
def test_true_size_of_sana_equals_diffusers(tmp_path: Path) -> None:
    true_size("dc-ae-f32c32-sana-1.0", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get(BIG) != "1", reason=f"needs up to 8 GB of memory; {BIG}=1 runs it")
@pytest.mark.parametrize("name", ["dc-ae-f32c32-mix-1.0", "dc-ae-f64c128-in-1.0", "dc-ae-f128c512-mix-1.0"])
def test_bigger_true_sizes_equal_diffusers(name: str, tmp_path: Path) -> None:
    true_size(name, tmp_path)


@pytest.mark.parametrize("row", DC_VARIANTS, ids=lambda row: row.name)
def test_rows_have_the_sizes_that_diffusers_gives_them(row: DCVariant) -> None:
    """Every tensor of the published structure, by name and shape."""
    with torch.device("meta"):
        theirs = diffusers.AutoencoderDC(**config_of(row)).state_dict()
    for part in ("encoder", "decoder"):
        ours = row.architecture.build(part).state_dict()
        for own, names in network_keys(DIFFUSERS, part, row.architecture).items():
            assert ours[own].numel() == sum(theirs.pop(name).numel() for name in names)
    assert not theirs


def test_published_sizes_of_the_files() -> None:
    """Sana's file has 1,249,044,836 bytes: four for each weight, and less than 100 kB of header."""
    sana = DC_BY_NAME["dc-ae-f32c32-sana-1.0"].architecture
    weights = sum(value.numel() for part in ("encoder", "decoder") for value in sana.build(part).state_dict().values())
    assert 0 < 1_249_044_836 - 4 * weights < 100_000


def in_original_layout(vae: nn.Module, prefix: str = "") -> State:
    """diffusers' weights under the original keys, by our tables: there every layer is a convolution, as here."""
    state, written = vae.state_dict(), {}
    architecture = architecture_from(dict(vae.config))
    for part in ("encoder", "decoder"):
        shapes = {key: value.shape for key, value in architecture.build(part).state_dict().items()}
        theirs = network_keys(ORIGINAL, part, architecture, prefix)
        for own, names in network_keys(DIFFUSERS, part, architecture).items():
            (name,) = theirs[own]
            pieces = [state[piece] for piece in names]
            written[name] = torch.cat(pieces).reshape(shapes[own]) if shapes[own] else pieces[0]
    return written


@pytest.mark.parametrize("row", STRUCTURES.values(), ids=lambda row: row.name)
def test_key_tables_agree_with_diffusers_converter(row: DCVariant) -> None:
    """Our original keys, read by diffusers' converter, are the very weights again: the table holds both ways."""
    from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers

    vae = small(row)
    back = convert_autoencoder_dc_checkpoint_to_diffusers(in_original_layout(vae))
    state = vae.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("row", STRUCTURES.values(), ids=lambda row: row.name)
def test_the_original_layout(row: DCVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = small(row)
    # The structure of a single file is found among the rows: here the row is a small one.
    architecture = architecture_from(dict(vae.config))
    little = DCVariant(row.name, row.title, architecture, row.scaling_factor, row.format_name)
    monkeypatch.setattr(dc_kind, "DC_VARIANTS", (little,))
    path = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in in_original_layout(vae).items()}, path)
    codec = load_codec(path)
    assert (codec.name, codec.source.reason) == (row.name, "no other DC-AE has its structure")
    assert_equal(codec, vae, 2, 2)


class TestVariants:
    """`in` and `mix` are told apart by evidence, never by a guess."""

    ROWS = ("dc-ae-f32c32-in-1.0", "dc-ae-f32c32-mix-1.0")

    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        vae = small(DC_BY_NAME[self.ROWS[0]])
        architecture = architecture_from(dict(vae.config))
        rows = tuple(
            DCVariant(row.name, row.title, architecture, row.scaling_factor, row.format_name, row.words)
            for row in map(DC_BY_NAME.get, self.ROWS)
        )
        monkeypatch.setattr(dc_kind, "DC_VARIANTS", rows)
        monkeypatch.setattr(dc_kind, "DC_BY_NAME", {row.name: row for row in rows})
        path = tmp_path / "x" / "model.safetensors"
        path.parent.mkdir()
        save_file({key: value.contiguous() for key, value in in_original_layout(vae).items()}, path)
        return path

    def test_without_evidence(self, file: Path) -> None:
        with pytest.raises(TaesdError, match=r"in-1\.0 or dc-ae-f32c32-mix-1\.0.*variant="):
            load_codec(file)

    @pytest.mark.parametrize("name", ROWS)
    def test_the_user(self, name: str, file: Path) -> None:
        codec = load_codec(file, variant=name)
        assert codec.name == name
        assert codec.decoder.scale.scaling_factor == DC_BY_NAME[name].scaling_factor

    def test_the_user_is_wrong(self, file: Path) -> None:
        with pytest.raises(TaesdError, match="another structure"):
            load_codec(file, variant="dc-ae-f64c128-in-1.0")

    @pytest.mark.parametrize("name", ROWS)
    def test_the_original_config(self, name: str, file: Path) -> None:
        (file.parent / "config.json").write_text(json.dumps({"model_name": name}))
        assert load_codec(file).name == name

    @pytest.mark.parametrize("name", ROWS)
    def test_the_name(self, name: str, file: Path) -> None:
        assert load_codec(file.rename(file.with_name(f"{name}.safetensors"))).name == name

    def test_the_checksum(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        official = next(row for row in CATALOG if row.family == self.ROWS[1])
        monkeypatch.setattr(dc_kind, "identify", lambda path, **_: Identity(path, 1, official))
        assert load_codec(file).name == self.ROWS[1]


def test_a_network_of_ones_own_is_read_by_its_config(tmp_path: Path) -> None:
    settings = config_of(DC_VARIANTS[1], SMALL_WIDTHS, most_blocks=1) | {"scaling_factor": 0.7, "latent_channels": 16}
    vae = reference(settings)
    codec = load_codec(saved(vae, tmp_path))
    assert codec.name == "dc-ae-f32c16"
    assert_equal(codec, vae, 2, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder_block_out_channels": [1, 2]},
        {"decoder_layers_per_block": [1] * 6 + [10**9]},
        {"encoder_block_out_channels": [16, 16, 16, 32, 64, 10**6]},
        {"decoder_act_fns": "nonsense"},
        {"latent_channels": "many"},
        {"attention_head_dim": 1000},
        {"encoder_qkv_multiscales": 5},
    ],
)
def test_a_config_that_describes_no_network_is_refused(wrong: dict, tmp_path: Path) -> None:
    folder = saved(small(DC_VARIANTS[1]), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(TaesdError, match="describes no DC-AE"):
        load_codec(folder)


def test_a_folder_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    folder = saved(small(DC_VARIANTS[0]), tmp_path)
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["decoder.up_blocks.3.1.attn.to_k.weight"]
    save_file(state, path)
    with pytest.raises(TaesdError, match="to_k"):
        load_codec(folder)


def test_it_cannot_sample(tmp_path: Path) -> None:
    codec = load_codec(saved(small(DC_VARIANTS[0]), tmp_path))
    with pytest.raises(TaesdError, match="cannot sample"):
        codec.encode(picture(32, 32), sample=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    codec = load_codec(saved(small(DC_VARIANTS[0]), tmp_path), dtype=dtype)
    latent = latent_like(codec, 6, 6)
    assert relative_error(codec.decode(latent), codec.in_float32().decode(latent)) < 0.2


def test_catalogue_and_rows_name_the_same_files() -> None:
    assert {row.family for row in CATALOG if row.kind == AUTOENCODER_DC} <= DC_BY_NAME.keys()
    for row in DC_VARIANTS:
        assert row.latent_format.latent_channels == row.architecture.latent_channels
        assert row.latent_format.spatial_scale_factor == row.architecture.spatial_scale_factor


