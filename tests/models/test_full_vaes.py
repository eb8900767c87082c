"""Full-size VAEs against diffusers: every structure, and what each can do besides."""

from pathlib import Path

import pytest
import torch
from diffusers_vaes import (
    CONSISTENCY,
    DC,
    KINDS,
    LARGEST_ERROR,
    PUBLISHED_KL,
    WAN,
    assert_equal,
    decoded,
    latent_like,
    picture,
    reference,
    relative_error,
    saved,
)
from full_vae_folders import FILE, FolderOf, copied, flat, write
from safetensors.torch import load_file, save_file
from torch import nn

from taesd_ext import load_codec
from taesd_ext.cli import main
from taesd_ext.codec import loading, precision
from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.weights.vae_table import VAE_BY_NAME

pytest.importorskip("diffusers")


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_equals_diffusers_from_its_own_folder(name: str, folder_of: FolderOf) -> None:
    vae, folder = folder_of(name)
    codec = load_codec(folder)
    assert (codec.name, codec.format) == (name, VAE_BY_NAME[name].latent_format)
    assert_equal(codec, vae, 2, 3, batch=2)
    if codec.spatial_scale_factor < 128:  # above 32 positions DC-AE's attention is multiplied from the other side
        assert_equal(codec, vae, 6, 7)


def test_a_network_of_the_published_size_equals_diffusers(tmp_path: Path) -> None:
    vae = reference("sd15-vae", **PUBLISHED_KL)
    assert_equal(load_codec(saved(vae, tmp_path)), vae, 4, 6)


@pytest.mark.parametrize("name", ["sd15-vae", "flux2-vae", *DC[:2]])
def test_tiles_equal_diffusers(name: str, tmp_path: Path) -> None:
    vae = reference(name)
    codec = load_codec(saved(vae, tmp_path))
    factor = codec.spatial_scale_factor
    if name in DC:
        tile, stride, sides = (4 * factor, 3 * factor), (3 * factor, 2 * factor), (5, 4)
        vae.enable_tiling(*tile, *stride)
    else:
        tile, stride, sides = (64, 64), (48, 48), (18, 14)
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = 64, 8
    codec.encoder.tiler = codec.decoder.tiler = BlendedTiler(factor, tile, stride, whole_pixels=0, spread=False)
    assert_equal(codec, vae, *sides)


def test_flux2_with_a_narrower_decoder_and_the_samplers_packed_latent(tmp_path: Path) -> None:
    vae = reference("flux2-vae", decoder_block_out_channels=(8, 16, 16, 24))
    codec = load_codec(saved(vae, tmp_path))
    assert_equal(codec, vae, 6, 8)
    latent = latent_like(codec, 8, 6)
    assert torch.equal(codec.decode(nn.functional.pixel_unshuffle(latent, 2)), codec.decode(latent))


def test_sampled_latents(folder_of: FolderOf) -> None:
    vae, folder = folder_of("sd15-vae")
    codec = load_codec(folder)
    image = picture(48, 40, batch=2)
    state = torch.get_rng_state()
    drawn = codec.encode(image, sample=torch.Generator().manual_seed(7))
    with torch.no_grad():
        distribution = vae.encode(image * 2 - 1).latent_dist
        expected = distribution.sample(torch.Generator().manual_seed(7)) * vae.config.scaling_factor
    assert relative_error(drawn, expected) <= LARGEST_ERROR
    seeded = codec.encode(image, sample=7)
    assert torch.equal(seeded[1:], codec.encode(image[1:], sample=7)), "a picture's latent depends on its neighbour"
    assert not torch.equal(seeded, codec.encode(image, sample=8))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("half_on_cpu")
def test_sdxl_does_not_run_in_float16(folder_of: FolderOf) -> None:
    _, folder = folder_of("sdxl-vae")
    for variant, dtype in ((None, torch.float32), ("sdxl-vae-fp16-fix", torch.float16)):
        assert load_codec(folder, dtype=torch.float16, variant=variant).dtype == dtype


@pytest.mark.parametrize(("contrast", "dtype"), [(0.1, torch.bfloat16), (30, torch.float32)])
def test_auto_takes_bfloat16_where_the_processor_is_quick_in_it_and_it_cannot_be_seen(
    contrast: float, dtype: torch.dtype, folder_of: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "auto_dtype", lambda device_type: torch.bfloat16)
    folder = copied(
        folder_of("sd15-vae")[1], tmp_path / "vae", lambda state: state["decoder.conv_out.weight"].mul_(contrast)
    )
    codec = load_codec(folder, dtype="auto")
    assert codec.dtype == dtype
    latent = latent_like(codec, 5, 7)
    off = (codec.decode(latent) - load_codec(folder).decode(latent)).square().mean().sqrt()
    assert off <= loading.SEEN


def test_borders_are_told_by_the_file_and_by_a_person_who_counts_more(folder_of: FolderOf, tmp_path: Path) -> None:
    """What a person says goes with the content, wherever the file is put."""
    folder = copied(folder_of("sd15-vae")[1], tmp_path / "vae")
    vae, latent, pictures = reference("sd15-vae"), torch.randn(1, 4, 4, 5), {}
    for borders in ("zeros", "reflect", "replicate"):
        save_file(load_file(folder / FILE), folder / FILE, metadata={"padding_mode": borders})
        for module in vae.modules():
            if isinstance(module, nn.Conv2d):
                module.padding_mode = borders
        pictures[borders] = load_codec(folder).decode(latent)
        assert relative_error(pictures[borders], decoded(vae, latent)) <= LARGEST_ERROR
    assert main(["weights", "borders", str(folder / FILE), "reflect"]) == 0
    folder = folder.rename(tmp_path / "elsewhere")
    assert torch.equal(load_codec(folder).decode(latent), pictures["reflect"])
    for damaged in ('{"a": 1', '{"a": 1}', '{"a": {"size": "1"}}', "[1]"):
        (tmp_path / "cache" / "taesd_ext" / "vae_borders.json").write_text(damaged)
        assert torch.equal(load_codec(folder).decode(latent), pictures["replicate"])


def test_twelve_channels_are_a_picture_of_twice_the_size(folder_of: FolderOf, tmp_path: Path) -> None:
    _, folder = folder_of(WAN)
    state = flat(load_file(folder / FILE))
    for key in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
        state[key] = state[key].repeat_interleave(4, dim=0)
    twice = load_codec(write(state, tmp_path / "upscale2x.safetensors"))
    assert (twice.image_scale, twice.spatial_scale_factor) == (2, 8)
    latent = latent_like(twice, 12, 10)
    # Each pixel became four equal ones.
    expected = load_codec(folder).decode(latent).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert relative_error(twice.decode(latent), expected) < 1e-6
    assert twice.decode(latent, tile=64).shape == expected.shape
    assert twice.decode(latent, size=(93, 75)).shape[-2:] == (186, 150)
    assert twice.decode(latent, detail="1/2").shape[-2:] == (96, 80)


def test_the_consistency_decoders_noise_is_the_pictures_own(
    folder_of: FolderOf, caplog: pytest.LogCaptureFixture
) -> None:
    """The same at each decode, for each picture of a batch and in tiles; nobody else's random numbers are touched."""
    codec = load_codec(folder_of(CONSISTENCY)[1])
    assert VAE_BY_NAME[CONSISTENCY].cost in caplog.text, "said before it starts"
    latent, state, tiles = latent_like(codec, 8, 12), torch.get_rng_state(), []
    whole = codec.decode(latent)
    assert torch.equal(codec.decode(latent.repeat(2, 1, 1, 1)), whole.repeat(2, 1, 1, 1))
    assert torch.equal(torch.get_rng_state(), state)
    tiled = codec.decode(latent, tile=64, on_tiled=tiles.append)
    assert tiles == [64]
    other = codec.decode(latent.flip(-1)).flip(-1)  # the same picture from other noise
    assert (tiled - whole).abs().mean() < (other - whole).abs().mean() / 2
