"""Files of full-size VAEs in every published layout give what diffusers gives, and what does not fit is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers_vaes import CONSISTENCY, DC, KINDS, KL, WAN, assert_equal, reference
from full_vae_folders import FILE, FolderOf, copied, flat, write
from original_layouts import State, in_original_layout
from safetensors.torch import load_file

from taesd_ext import load_codec
from taesd_ext.errors import TaesdError
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.vae_file import find_layout, find_networks
from taesd_ext.weights.vae_table import VAE_BY_NAME

single_file_utils = pytest.importorskip("diffusers.loaders.single_file_utils")


def old_attention_names(state: State) -> State:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    return {re.sub("|".join(old), lambda match: old[match[0]], key): value for key, value in state.items()}


def original(name: str, prefix: str = "") -> Callable[[State], State]:
    return lambda state: in_original_layout(name, state, prefix)


FILES: dict[str, tuple[str, Callable[[State], State], str]] = {
    "SD 1": ("sd15-vae", original("sd15-vae"), "ckpt"),
    "SD 1 in a checkpoint": ("sd15-vae", original("sd15-vae", "first_stage_model."), "safetensors"),
    "SDXL with diffusers' old names": ("sdxl-vae", old_attention_names, "safetensors"),
    "SD 3 in a checkpoint": ("sd3-vae", original("sd3-vae", "first_stage_model."), "ckpt"),
    "FLUX.1 in a checkpoint": ("flux-vae", original("flux-vae", "vae."), "safetensors"),
    "FLUX.2": ("flux2-vae", original("flux2-vae"), "safetensors"),
    "Wan by diffusers, flat": (WAN, flat, "safetensors"),
    "Wan": (WAN, original(WAN), "safetensors"),
    "Wan, flat": (WAN, lambda state: flat(in_original_layout(WAN, state)), "safetensors"),
    "Wan in a checkpoint": (WAN, original(WAN, "vae."), "safetensors"),
    "Consistency Decoder": (CONSISTENCY, original(CONSISTENCY), "pt"),
    "Consistency Decoder, written by another program": (
        CONSISTENCY,
        lambda state: {
            key.replace("embed_time.w", "blocks.embed_time.emb.w"): value
            for key, value in in_original_layout(CONSISTENCY, state).items()
        },
        "pt",
    ),
    **{name: (name, original(name), "safetensors") for name in DC},
}


@pytest.mark.parametrize("kind", FILES)
def test_every_other_layout_equals_diffusers(kind: str, folder_of: FolderOf, tmp_path: Path) -> None:
    name, change, suffix = FILES[kind]
    vae, folder = folder_of(name)
    path = write(change(load_file(folder / FILE)), tmp_path / f"diffusion_pytorch_model.{suffix}")
    # Groups are written nowhere in these layouts: 32 is right for every published file, and here 8 lie in a config.
    (tmp_path / "config.json").write_text('{"norm_num_groups": 8}', encoding="utf-8")
    assert_equal(load_codec(path, variant=name), vae, 2, 3)


@pytest.mark.parametrize("name", [KL[0], *DC])
def test_original_names_are_those_that_diffusers_converts(name: str, folder_of: FolderOf) -> None:
    vae, _ = folder_of(name)
    state = vae.state_dict()
    if name in DC:
        convert = single_file_utils.convert_autoencoder_dc_checkpoint_to_diffusers
    else:
        convert = single_file_utils.convert_ldm_vae_checkpoint
    back = convert(in_original_layout(name, state), config=vae.config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("name", KINDS)
def test_networks_of_the_published_size_are_recognised(name: str, tmp_path: Path) -> None:
    """By the shapes of their tensors; each is checked against the network that they are taken for."""
    theirs = reference(name, published=True).state_dict()
    file = TensorFile(tmp_path / FILE, {key: tuple(value.shape) for key, value in theirs.items()}, {}, None)
    networks = {part: network for part, (network, _) in find_networks(file, *find_layout(file), {}).items()}
    assert networks.keys() == {"encoder", "decoder"}
    row = VAE_BY_NAME[name]
    for network in networks.values():
        assert network.latent_channels == row.latent_format.latent_channels
        assert network.spatial_scale_factor == row.latent_format.spatial_scale_factor
        assert getattr(network, "plain", None) == row.plain


KEY = "decoder.up_blocks.1.resnets.0.conv2.weight"
DAMAGE: dict[str, tuple[str, Callable[[State], object]]] = {
    "a tensor less": ("sd15-vae", lambda state: state.pop(KEY)),
    "another shape": ("sd15-vae", lambda state: state.update({KEY: state[KEY][:, :-1].contiguous()})),
    "a tensor more": ("sd15-vae", lambda state: state.update({KEY.replace("s.0", "s.9"): state[KEY].clone()})),
    "a query without its key": (DC[0], lambda state: state.pop("decoder.up_blocks.3.1.attn.to_k.weight")),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_files_that_do_not_fit_are_refused_with_the_tensors_name(
    kind: str, folder_of: FolderOf, tmp_path: Path
) -> None:
    name, change = DAMAGE[kind]
    with pytest.raises(TaesdError, match=r"decoder\.up_blocks\.[13]\.") as caught:
        load_codec(copied(folder_of(name)[1], tmp_path / "vae", change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"decoder_act_fns": ["gelu"] * 6}, {"decoder_in_shortcut": False}])
def test_what_no_published_dc_ae_has_is_refused(wrong: dict, folder_of: FolderOf, tmp_path: Path) -> None:
    with pytest.raises(TaesdError, match=next(iter(wrong))):
        load_codec(copied(folder_of("dc-ae-f32c32-in-1.0")[1], tmp_path / "vae", **wrong))


def test_in_and_mix_are_told_apart_by_the_config_and_never_guessed(folder_of: FolderOf, tmp_path: Path) -> None:
    """Their scales are alike but for the numbers."""
    _, folder = folder_of("dc-ae-f32c32-in-1.0")
    mix = VAE_BY_NAME["dc-ae-f32c32-mix-1.0"]
    for number, told in enumerate(({"scaling_factor": mix.latent_format.scaling_factor}, {"model_name": mix.name})):
        codec = load_codec(copied(folder, tmp_path / str(number), **told))
        assert (codec.name, codec.format) == (mix.name, mix.latent_format)
    with pytest.raises(TaesdError, match="variant="):
        load_codec(copied(folder, tmp_path / "neither", scaling_factor=0.7))
