"""The SD VAE against diffusers' AutoencoderKL, from every published layout."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from full_vae_files import in_layout, plain_vae
from full_vae_reference import LARGEST_ERROR, latent_like, make_up, picture, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taesd_ext import cli, load_codec
from taesd_ext.codec.blended_tiles import BlendedTiler
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.picture_file import image_to_picture, read_picture
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


def saved(vae: nn.Module, folder: Path) -> Path:
    vae.save_pretrained(folder)
    return folder


def flux2_scale(vae: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the packed latent, as diffusers' pipeline takes them."""
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    return mean, torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)


def scaled(vae: nn.Module, latent: Tensor) -> Tensor:
    if hasattr(vae, "bn"):
        mean, deviation = flux2_scale(vae)
        return nn.functional.pixel_shuffle((nn.functional.pixel_unshuffle(latent, 2) - mean) / deviation, 2)
    return (latent - (vae.config.shift_factor or 0)) * vae.config.scaling_factor


def unscaled(vae: nn.Module, latent: Tensor) -> Tensor:
    if hasattr(vae, "bn"):
        mean, deviation = flux2_scale(vae)
        return nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(latent, 2) * deviation + mean, 2)
    return latent / vae.config.scaling_factor + (vae.config.shift_factor or 0)


def reference_encode(vae: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return scaled(vae, vae.encode(image * 2 - 1).latent_dist.mean)


def reference_decode(vae: nn.Module, latent: Tensor) -> Tensor:
    with torch.no_grad():
        return (vae.decode(unscaled(vae, latent)).sample / 2 + 0.5).clamp(0, 1)


def assert_equal(codec: Codec, vae: nn.Module, height: int, width: int, batch: int = 1) -> None:
    image = picture(height, width, batch)
    assert relative_error(codec.encode(image), reference_encode(vae, image)) <= LARGEST_ERROR
    latent = latent_like(codec, height // 8, width // 8, batch)
    decoded = codec.decode(latent)
    assert relative_error(decoded, reference_decode(vae, latent)) <= LARGEST_ERROR
    assert float(decoded.std()) > 0.05, "a flat picture would prove nothing"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_small_networks_equal_diffusers_from_its_own_folder(kind: NamedVAE, tmp_path: Path) -> None:
    vae = reference(kind, SMALL)
    codec = load_codec(saved(vae, tmp_path))
    assert (codec.name, codec.format.name) == (kind.name, kind.format_name)
    assert_equal(codec, vae, 80, 48, batch=2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_tiles_equal_diffusers(kind: NamedVAE, tmp_path: Path) -> None:
    vae = reference(kind, SMALL)
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = 64, 8
    codec = load_codec(saved(vae, tmp_path))
    tiler = BlendedTiler(8, tile=(64, 64), stride=(48, 48), whole_pixels=0, spread=False)
    codec.encoder.tiler = codec.decoder.tiler = tiler
    assert_equal(codec, vae, 144, 112)


@pytest.mark.parametrize("name", ["sd15-vae", "sdxl-vae", "flux-vae"])
def test_true_sizes_equal_diffusers(name: str, tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME[name], TRUE_SIZE)
    assert_equal(load_codec(saved(vae, tmp_path)), vae, 64, 96)


def test_a_drawn_latent_on_the_command_line(tmp_path: Path) -> None:
    folder = saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path / "vae")
    image_to_picture(picture(32, 40)).save(tmp_path / "in.png")
    arguments = ["encode", str(tmp_path / "in.png"), "--family", str(folder), "-o"]
    for name, seed in (("mean", []), ("a", ["--seed", "3"]), ("b", ["--seed", "3"]), ("c", ["--seed", "4"])):
        assert cli.main([*arguments, str(tmp_path / f"{name}.safetensors"), *seed]) == 0
    mean, a, b, c = (read_latent(tmp_path / f"{name}.safetensors")[0] for name in ("mean", "a", "b", "c"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a, mean)
    assert torch.equal(a, load_codec(folder).encode(read_picture(tmp_path / "in.png"), sample=3))


def test_flux2_with_a_narrower_decoder(tmp_path: Path) -> None:
    sizes = {**SMALL, "decoder_block_out_channels": (8, 16, 16, 24)}
    vae = reference(VAE_BY_NAME["flux2-vae"], sizes)
    assert_equal(load_codec(saved(vae, tmp_path)), vae, 48, 64)


def test_flux2_takes_the_samplers_packed_latent(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["flux2-vae"], SMALL)
    codec = load_codec(saved(vae, tmp_path))
    latent = latent_like(codec, 8, 6)
    assert torch.equal(codec.decode(nn.functional.pixel_unshuffle(latent, 2)), codec.decode(latent))


def test_published_parameter_counts_of_sd1() -> None:
    """Counted without the quant convolutions, 72 and 20 weights, which ldm keeps outside the two networks."""
    for network, expected, quant in ((Encoder, 34_163_592, 72), (Decoder, 49_490_179, 20)):
        with torch.device("meta"):
            counts = [sum(weight.numel() for weight in network(quant_conv=q).parameters()) for q in (False, True)]
        assert counts == [expected, expected + quant]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(1, 6).map(lambda n: 8 * n), min_size=4, max_size=4), st.booleans())
def test_networks_tell_their_own_shape(channels: int, widths: list[int], quant_conv: bool) -> None:
    for network in (Encoder, Decoder):
        with torch.device("meta"):
            built = network(channels, tuple(widths), groups=8, quant_conv=quant_conv)
        shapes = {key: tuple(value.shape) for key, value in built.state_dict().items()}
        assert network.arguments_of(shapes) == {
            "latent_channels": channels, "widths": tuple(widths), "quant_conv": quant_conv
        }  # fmt: skip


def in_original_layout(folder: Path, prefix: str = "", *, nested_quant: bool = False) -> State:
    """A diffusers folder's weights as our networks hold them, under the original keys."""
    halves = plain_vae(folder)
    state = [in_layout(half.network, LDM, prefix, nested_quant=nested_quant).items() for half in halves]
    scale = halves[1].scale.state_dict()
    return dict(pair for items in state for pair in items) | {f"{prefix}bn.{key}": scale[key] for key in scale}


def write_safetensors(state: State, path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def write_ckpt(state: State, path: Path) -> Path:
    torch.save({"state_dict": state, "global_step": 840000}, path.with_suffix(".ckpt"))
    return path.with_suffix(".ckpt")


@pytest.mark.parametrize("write", [write_safetensors, write_ckpt])
@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
@pytest.mark.parametrize("name", ["sd15-vae", "sd3-vae"])
def test_the_original_layout(name: str, prefix: str, write: Callable[[State, Path], Path], tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME[name], SMALL)
    state = in_original_layout(saved(vae, tmp_path), prefix)
    # Groups are written nowhere in this layout: 32 is right for every published file, and here 8 lie in a config.
    codec = load_codec(beside_config(write(state, tmp_path / "diffusion_pytorch_model"), groups=8), variant=name)
    assert_equal(codec, vae, 64, 40)


def beside_config(path: Path, **values: int) -> Path:
    entries = ", ".join(f'"norm_num_{key}": {value}' for key, value in values.items())
    (path.parent / "config.json").write_text(f"{{{entries}}}", encoding="utf-8")
    return path


def test_flux2s_original_layout(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["flux2-vae"], {**SMALL, "norm_num_groups": 8})
    state = in_original_layout(saved(vae, tmp_path), nested_quant=True)
    assert "encoder.quant_conv.weight" in state
    assert "decoder.post_quant_conv.weight" in state
    codec = load_codec(beside_config(write_safetensors(state, tmp_path / "diffusion_pytorch_model"), groups=8))
    assert_equal(codec, vae, 64, 48)


def test_diffusers_old_attention_names(tmp_path: Path) -> None:
    vae = reference(VAE_BY_NAME["sdxl-vae"], SMALL)
    folder = saved(vae, tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {re.sub("|".join(old), lambda match: old[match[0]], key): value for key, value in vae.state_dict().items()}
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in state
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    assert_equal(load_codec(folder), vae, 40, 64)


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


def test_slicing_changes_nothing(tmp_path: Path) -> None:
    codec = load_codec(saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path))
    latent = latent_like(codec, 5, 7, batch=3)
    one_by_one = codec.decode(latent)
    assert torch.equal(one_by_one[1:2], codec.decode(latent[1:2]))
    codec.decoder.slicing = False
    assert relative_error(codec.decode(latent), one_by_one) <= LARGEST_ERROR


def test_the_codec_passes_tiles_and_progress_on(tmp_path: Path) -> None:
    codec = load_codec(saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path))
    latent, told = latent_like(codec, 16, 12), []
    whole = codec.decode(latent, tile="off")
    assert torch.equal(codec.decode(latent), whole), "a small picture is not cut"
    tiled = codec.decode(latent, tile=64, progress=told.append)
    assert not torch.equal(tiled, whole)
    assert told == sorted(told)
    assert len(told) > 4
    image = picture(128, 96)
    assert not torch.equal(codec.encode(image, tile=64), codec.encode(image))


def test_half_precision_leaves_the_exact_weights_alone(tmp_path: Path) -> None:
    codec = load_codec(saved(reference(VAE_BY_NAME["sd15-vae"], SMALL), tmp_path), dtype=torch.bfloat16)
    latent = latent_like(codec, 5, 7)
    narrow = codec.decode(latent)
    exact = codec.in_float32().decode(latent)
    assert relative_error(narrow, exact) < 0.2
    assert torch.equal(codec.decode(latent), narrow)


@pytest.mark.usefixtures("half_on_cpu")
def test_sdxl_does_not_run_in_float16(tmp_path: Path) -> None:
    sdxl = load_codec(saved(reference(VAE_BY_NAME["sdxl-vae"], SMALL), tmp_path), dtype=torch.float16)
    assert sdxl.dtype == torch.float32
    fixed = load_codec(tmp_path, dtype=torch.float16, variant="sdxl-vae-fp16-fix")
    assert fixed.dtype == torch.float16


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
    assert_equal(load_codec(folder), vae, 32, 40)
