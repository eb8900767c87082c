"""The SD VAE against diffusers' AutoencoderKL, from every published layout."""

import re
from pathlib import Path

import pytest
import torch
from full_vae_files import in_layout, plain_vae
from full_vae_reference import LARGEST_ERROR, assert_equal, latent_like, make_up, picture, relative_error, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taesd_ext import load_codec
from taesd_ext.cli import main
from taesd_ext.codec import loading, precision
from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.errors import TaesdError
from taesd_ext.models.autoencoder_kl import Decoder, Encoder
from taesd_ext.weights.vae_layouts import LDM
from taesd_ext.weights.vae_table import VAE_BY_NAME, NamedVAE

diffusers = pytest.importorskip("diffusers")

SMALL = {"block_out_channels": (16, 24, 32, 32), "norm_num_groups": 8, "layers_per_block": 2}
TRUE_SIZE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
KINDS = [VAE_BY_NAME[name] for name in ("sd15-vae", "sdxl-vae", "sd3-vae", "flux-vae", "flux2-vae")]

State = dict[str, Tensor]


def reference(kind: NamedVAE, sizes: dict, seed: int = 0) -> nn.Module:
    """diffusers' network of this kind as its published config.json describes it."""
    common = {
        **sizes,
        "latent_channels": kind.latent_format.latent_channels,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    if kind.name == "flux2-vae":
        return make_up(diffusers.AutoencoderKLFlux2(**common), seed)
    quant = kind.latent_format.latent_channels == 4
    return make_up(
        diffusers.AutoencoderKL(
            **common,
            scaling_factor=kind.latent_format.scaling_factor,
            shift_factor=kind.latent_format.shift or None,
            use_quant_conv=quant,
            use_post_quant_conv=quant,
        ),
        seed,
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_small_networks_equal_diffusers_from_its_own_folder(kind: NamedVAE, tmp_path: Path) -> None:
    vae = reference(kind, SMALL)
    codec = load_codec(saved(vae, tmp_path))
    assert (codec.name, codec.format.name) == (kind.name, kind.format_name)
    assert_equal(codec, vae, 10, 6, batch=2)


@pytest.mark.parametrize("name", ["sd15-vae", "flux2-vae"])
def test_tiles_equal_diffusers(name: str, tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME[name], SMALL)
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = 64, 8
    codec = load_codec(saved(vae, tmp_path))
    tiler = BlendedTiler(8, tile=(64, 64), stride=(48, 48), whole_pixels=0, spread=False)
    codec.encoder.tiler = codec.decoder.tiler = tiler
    assert_equal(codec, vae, 18, 14)


def test_true_sizes_equal_diffusers(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["sd15-vae"], TRUE_SIZE)
    assert_equal(load_codec(saved(vae, tmp_path)), vae, 8, 12)


def test_flux2_with_a_narrower_decoder_and_the_samplers_packed_latent(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["flux2-vae"], {**SMALL, "decoder_block_out_channels": (8, 16, 16, 24)})
    codec = load_codec(saved(vae, tmp_path))
    assert_equal(codec, vae, 6, 8)
    latent = latent_like(codec, 8, 6)
    assert torch.equal(codec.decode(nn.functional.pixel_unshuffle(latent, 2)), codec.decode(latent))


@settings(max_examples=20)
@given(st.integers(1, 40), st.lists(st.integers(1, 6).map(lambda n: 8 * n), min_size=4, max_size=4), st.booleans())
def test_networks_tell_their_own_shape(channels: int, widths: list[int], quant_conv: bool) -> None:
    for network, more in ((Encoder, {}), (Decoder, {"image_channels": 3}), (Decoder, {"image_channels": 12})):
        arguments = {"latent_channels": channels, "widths": tuple(widths), "quant_conv": quant_conv, **more}
        with torch.device("meta"):
            built = network(**arguments, groups=8)
        shapes = {key: tuple(value.shape) for key, value in built.state_dict().items()}
        assert network.arguments_of(shapes) == arguments


def in_original_layout(folder: Path, prefix: str = "", *, nested_quant: bool = False) -> State:
    """A diffusers folder's weights as our networks hold them, under the original keys."""
    halves = plain_vae(folder)
    state = [in_layout(half.network, LDM, prefix, nested_quant=nested_quant).items() for half in halves]
    scale = getattr(halves[1].scale, "state_dict", dict)()  # FLUX.2 alone has one of its own
    return dict(pair for items in state for pair in items) | {f"{prefix}bn.{key}": scale[key] for key in scale}


@pytest.mark.parametrize(
    ("name", "prefix", "suffix"),
    [
        ("sd15-vae", "", "ckpt"),
        ("sd15-vae", "first_stage_model.", "safetensors"),
        ("sd3-vae", "first_stage_model.", "ckpt"),
        ("sd3-vae", "vae.", "safetensors"),
        ("flux2-vae", "", "safetensors"),
    ],
)
def test_the_original_layout(name: str, prefix: str, suffix: str, tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME[name], SMALL)
    state = in_original_layout(saved(vae, tmp_path), prefix, nested_quant=name == "flux2-vae")
    path = tmp_path / f"diffusion_pytorch_model.{suffix}"
    if suffix == "ckpt":
        torch.save({"state_dict": state, "global_step": 840000}, path)
    else:
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    # Groups are written nowhere in this layout: 32 is right for every published file, and here 8 lie in a config.
    (tmp_path / "config.json").write_text('{"norm_num_groups": 8}', encoding="utf-8")
    assert_equal(load_codec(path, variant=name), vae, 8, 6)


def test_diffusers_old_attention_names(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["sdxl-vae"], SMALL)
    folder = saved(vae, tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {re.sub("|".join(old), lambda match: old[match[0]], key): value for key, value in vae.state_dict().items()}
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in state
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    assert_equal(load_codec(folder), vae, 5, 8)


def test_key_tables_agree_with_diffusers_converter(tmp_path: Path) -> None:
    """Our original keys, read by diffusers' converter, are the very weights again: the table holds both ways."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = reference(VAE_BY_NAME["sd15-vae"], SMALL)
    written = in_original_layout(saved(vae, tmp_path))
    back = convert_ldm_vae_checkpoint(written, vae.config)
    state = vae.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert len(written) == len(state)


def test_sampled_latents(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["sd15-vae"], SMALL)
    codec = load_codec(saved(vae, tmp_path))
    image = picture(48, 40, batch=2)
    state = torch.get_rng_state()
    drawn = codec.encode(image, sample=torch.Generator().manual_seed(7))
    with torch.no_grad():
        distribution = vae.encode(image * 2 - 1).latent_dist
        expected = distribution.sample(torch.Generator().manual_seed(7)) * vae.config.scaling_factor
    assert relative_error(drawn, expected) <= LARGEST_ERROR
    seeded = codec.encode(image, sample=7)
    assert torch.equal(seeded, codec.encode(image, sample=7))
    assert torch.equal(seeded[1:], codec.encode(image[1:], sample=7)), "a picture's latent depends on its neighbour"
    assert not torch.equal(seeded, codec.encode(image, sample=8))
    assert torch.equal(torch.get_rng_state(), state)


def test_pictures_of_a_batch_are_on_their_own_and_tiles_are_passed_on(tmp_path: Path) -> None:
    codec = load_codec(saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path))
    latent, told = latent_like(codec, 16, 12, batch=2), []
    whole = codec.decode(latent)
    assert torch.equal(whole[1:], codec.decode(latent[1:], tile="off"))
    assert not torch.equal(codec.decode(latent, tile=64, progress=told.append), whole)
    assert told == sorted(told)
    assert len(told) > 4
    image = picture(128, 96)
    assert not torch.equal(codec.encode(image, tile=64), codec.encode(image))


@pytest.mark.usefixtures("half_on_cpu")
def test_sdxl_does_not_run_in_float16(tmp_path: Path) -> None:
    sdxl = load_codec(saved(reference(VAE_BY_NAME["sdxl-vae"], SMALL), tmp_path), dtype=torch.float16)
    assert sdxl.dtype == torch.float32
    fixed = load_codec(tmp_path, dtype=torch.float16, variant="sdxl-vae-fp16-fix")
    assert fixed.dtype == torch.float16


@pytest.mark.parametrize(("contrast", "dtype"), [(0.1, torch.bfloat16), (30, torch.float32)])
def test_auto_takes_bfloat16_where_the_processor_is_quick_in_it_and_it_cannot_be_seen(
    contrast: float, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "auto_dtype", lambda device_type: torch.bfloat16)
    vae = reference(VAE_BY_NAME["sd15-vae"], SMALL)
    vae.decoder.conv_out.weight.mul_(contrast)
    codec = load_codec(saved(vae, tmp_path), dtype="auto")
    assert codec.dtype == dtype
    latent = latent_like(codec, 5, 7)
    off = (codec.decode(latent) - load_codec(tmp_path).decode(latent)).square().mean().sqrt()
    assert off <= loading.SEEN


@pytest.mark.parametrize("change", ["missing", "misshapen", "additional"])
def test_files_that_do_not_fit_are_refused(change: str, tmp_path: Path) -> None:
    folder = saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path)
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    key = "decoder.up_blocks.1.resnets.0.conv2.weight"
    if change == "missing":
        del state[key]
    elif change == "misshapen":
        state[key] = state[key][:, :-1].contiguous()
    else:
        state["decoder.up_blocks.1.resnets.9.conv2.weight"] = state[key].clone()
    save_file(state, path)
    with pytest.raises(TaesdError, match=r"decoder\.up_blocks\.1\.resnets"):
        load_codec(folder)


@pytest.mark.parametrize("borders", ["zeros", "reflect", "replicate"])
def test_borders_are_told_by_the_files_metadata(borders: str, tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["sd15-vae"], SMALL)
    folder = saved(vae, tmp_path)
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file(load_file(path), path, metadata={"padding_mode": borders})
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = borders
    assert_equal(load_codec(folder), vae, 4, 5)


def test_what_a_person_says_of_borders_counts_more_and_goes_with_the_content(tmp_path: Path) -> None:
    folder = saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path / "vae")
    path = folder / "diffusion_pytorch_model.safetensors"
    latent = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    pictures = {}
    for borders in ("zeros", "reflect", "replicate"):
        save_file(load_file(path), path, metadata={"padding_mode": borders})
        pictures[borders] = load_codec(folder).decode(latent)
    assert main(["weights", "borders", str(path), "reflect"]) == 0
    folder = folder.rename(tmp_path / "elsewhere")
    assert torch.equal(load_codec(folder).decode(latent), pictures["reflect"])
    for damaged in ('{"a": 1', '{"a": 1}', '{"a": {"size": "1"}}', "[1]"):
        (tmp_path / "cache" / "taesd_ext" / "vae_borders.json").write_text(damaged)
        assert torch.equal(load_codec(folder).decode(latent), pictures["replicate"])
