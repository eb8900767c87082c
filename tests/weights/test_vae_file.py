"""Whose latents a VAE makes: told by evidence, never by a guess."""

import json
from pathlib import Path

import pytest
import torch
from full_vae_files import vae_state
from safetensors.torch import save_file

from taesd_ext import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.weights import vae_table
from taesd_ext.weights.catalog import CATALOG
from taesd_ext.weights.identify import Identity
from taesd_ext.weights.vae_table import AUTOENCODER_KL, VAE_BY_NAME, VAES


def written(path: Path, channels: int, prefix: str = "", **others: tuple[int, ...]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    beside = {name: torch.zeros(shape) for name, shape in others.items()}
    save_file(vae_state(channels, prefix=prefix) | beside, path)
    return path


NEIGHBOURS = {
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": {
        (320, 768): "sd1", (320, 1024): "sd1", (640, 2048): "sdxl", (768, 1280): "sdxl",
    },
    "cond_stage_model.transformer.text_model.embeddings.position_ids": {(1, 8): "sd1"},
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": {(1, 8): "sdxl"},
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.bias": {(8,): "sd3"},
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": {(8, 8): "flux1"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [(name, shape, found) for name, row in NEIGHBOURS.items() for shape, found in row.items()],
)
@pytest.mark.parametrize("prefix", ["first_stage_model.", "vae."])
def test_the_model_in_the_same_checkpoint_tells(
    name: str, shape: tuple[int, ...], expected: str, prefix: str, tmp_path: Path
) -> None:
    channels = {"sd1": 4, "sdxl": 4, "sd3": 16, "flux1": 16}[expected]
    codec = load_codec(written(tmp_path / "some checkpoint.safetensors", channels, prefix, **{name: shape}))
    assert codec.format.name == expected
    assert codec.source.reason


@pytest.mark.parametrize(
    ("place", "channels", "expected"),
    [
        ("my_sdxl_tuned.safetensors", 4, "sdxl"),
        ("sdxl/tuned.safetensors", 4, "sdxl"),
        ("sdxl/kl-f8-anime2.safetensors", 4, "sd1"),
        ("vae-ft-mse-840000-ema-pruned-fp16.safetensors", 4, "sd1"),
        ("FLUX-something.safetensors", 16, "flux1"),
        ("sd3.5_large_vae.safetensors", 16, "sd3"),
    ],
)
def test_words_in_the_name_are_the_last_resort(place: str, channels: int, expected: str, tmp_path: Path) -> None:
    codec = load_codec(written(tmp_path / place, channels))
    assert codec.format.name == expected
    assert "name" in codec.source.reason


@pytest.mark.parametrize(
    ("name", "channels", "variant"),
    [("model", 4, "sdxl-vae"), ("model", 16, "flux-vae"), ("sd15_or_sdxl", 4, "sdxl-vae")],
)
def test_without_evidence_it_is_not_guessed(name: str, channels: int, variant: str, tmp_path: Path) -> None:
    """Two words in the name are none."""
    path = written(tmp_path / "x" / f"{name}.safetensors", channels)
    with pytest.raises(TaesdError, match=f"variant=.*{variant}"):
        load_codec(path)
    assert load_codec(path, variant=variant).name == variant
    for impossible in ("nonsense", "flux-vae" if channels == 4 else "sdxl-vae"):
        with pytest.raises(TaesdError, match=f"cannot be {impossible}"):
            load_codec(path, variant=impossible)


def test_config_tells_and_an_unknown_factor_does_not(tmp_path: Path) -> None:
    path = written(tmp_path / "x" / "diffusion_pytorch_model.safetensors", 16)
    config = path.parent / "config.json"
    config.write_text(json.dumps({"scaling_factor": 1.5305, "shift_factor": 0.0609}))
    assert load_codec(path.parent).format.name == "sd3"
    for broken in ('{"scaling_factor": 0.5}', '{"scaling_factor": "0.3611"}', "[1]", "{", "\xff" * 70000):
        config.write_text(broken)
        with pytest.raises(TaesdError, match="variant="):
            load_codec(path)


@pytest.mark.parametrize("groups", [0, -1, 7, 10**9, "32", None, [32]])
def test_impossible_groups_are_one_line(groups: object, tmp_path: Path) -> None:
    path = written(tmp_path / "sdxl" / "diffusion_pytorch_model.safetensors", 4)
    (path.parent / "config.json").write_text(json.dumps({"norm_num_groups": groups}))
    if isinstance(groups, int):
        with pytest.raises(TaesdError, match="can be built"):
            load_codec(path)
    else:
        assert load_codec(path).format.name == "sdxl"


@pytest.mark.parametrize("key", ["decoder.conv_in", "encoder.conv_out", "decoder.up.1.block.0.conv1"])
def test_a_broken_half_is_not_left_out(key: str, tmp_path: Path) -> None:
    """A file whose decoder cannot be built is no encoder alone."""
    state = vae_state(4)
    state[f"{key}.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "sdxl.safetensors")
    with pytest.raises(TaesdError, match=f"its {key.split('.')[0]} lacks"):
        load_codec(tmp_path / "sdxl.safetensors")


def test_a_known_checksum_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x" / "model.safetensors", 4)
    row = next(row for row in CATALOG if row.family == "sd-vae-ft-ema")
    monkeypatch.setattr(vae_table, "identify", lambda path, **_: Identity(path, 1, row))
    codec = load_codec(path)
    assert (codec.name, codec.format.name) == ("sd-vae-ft-ema", "sd1")
    assert "560000" in codec.source.reason


@pytest.mark.parametrize("row", [row for row in VAES if row.network == AUTOENCODER_KL], ids=lambda row: row.name)
def test_named_vaes_are_found_in_the_hosts_folders(row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    channels = row.latent_format.latent_channels
    with pytest.raises(TaesdError, match=f"No weights for {row.name}"):
        load_codec(row.name)
    path = written(tmp_path / "models" / "VAE" / f"{row.stems[0]}.safetensors", channels)
    codec = load_codec(row.name)
    assert codec.name == row.name
    assert codec.source.decoder == path
    assert codec.format.name == row.format_name


def test_a_named_vae_with_a_bad_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "sdxl_vae.safetensors").write_bytes(b"<html>")
    with pytest.raises(TaesdError, match="web page"):
        load_codec("sdxl-vae", models_dir=tmp_path)
    good = written(tmp_path / "sdxl-vae.safetensors", 4)
    assert load_codec("sdxl-vae", models_dir=tmp_path).source.encoder == good


def test_the_catalogue_and_the_table_name_the_same_vaes() -> None:
    assert {row.family for row in CATALOG if not row.is_tiny} <= VAE_BY_NAME.keys()


def test_a_flux2_decoder_alone_takes_its_scale_from_the_whole_file_beside_it(tmp_path: Path) -> None:
    tmp_path = tmp_path / "models" / "vae"  # what lies in the folder above counts, too
    tmp_path.mkdir(parents=True)
    decoder = {key: value for key, value in vae_state(32, parts=("decoder",), seed=3).items() if "bn." not in key}
    save_file({key.removeprefix("decoder."): decoder[key] for key in decoder}, tmp_path / "decoder.safetensors")
    with pytest.raises(TaesdError, match="without the scale"):
        load_codec(tmp_path / "decoder.safetensors")
    scale = {"bn.running_mean": torch.rand(128), "bn.running_var": torch.rand(128)}
    save_file(vae_state(32, seed=3) | scale, tmp_path / "vae.safetensors")
    codec = load_codec(tmp_path / "decoder.safetensors")
    assert "vae.safetensors" in codec.source.reason
    (tmp_path / "elsewhere").mkdir()
    save_file(decoder | scale, tmp_path / "elsewhere" / "flux2.safetensors")
    latent = torch.randn(1, 128, 2, 3)
    expected = load_codec(tmp_path / "elsewhere" / "flux2.safetensors").decode(latent)
    assert torch.equal(codec.decode(latent), expected)
