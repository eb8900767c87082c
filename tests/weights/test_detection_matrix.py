"""Every kind of weight file against every reader: its own reader claims it, for what it is, and no other one does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from full_vae_files import (
    State,
    consistency_in_original_layout,
    dc_in_original_layout,
    in_layout,
    plain_vae,
    vae_state,
)
from narrow_files import VARIANTS, both_parts
from safetensors.torch import save_file
from torch import nn

from taesd_ext.codec.previewer import DATA
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.learning.pairs import LatentKind, make_pair
from taesd_ext.learning.readout import find_learnt, learn_readout, train_previewer_on, write_learnt
from taesd_ext.models import autoencoder_dc, autoencoder_kl, autoencoder_wan, consistency_decoder
from taesd_ext.weights.folders import DIFFUSERS_STEM
from taesd_ext.weights.identify import identify
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.vae_file import find_layout, find_networks, read_config
from taesd_ext.weights.vae_layouts import LAYOUTS

diffusers = pytest.importorskip("diffusers")

LAYOUT = {(one.models, one.name): one for one in LAYOUTS}
LEARNT = (LatentKind("Qwen", 16), LatentKind("Invented", 24), LatentKind("Other", 24, "VAE"), LatentKind("Other", 24))
DC_SIZES = {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in (
        ("block_types", ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3),
        ("block_out_channels", [16, 16, 16, 32, 64, 128]),
        ("layers_per_block", [int(part == "decoder"), 1, 1, 1, 1, 1]), ("qkv_multiscales", [()] * 3 + [(5,)] * 3),
    )
}  # fmt: skip

Write = Callable[[Path], Path]
"""Writes a file into a folder and gives its place."""


def file_of(state: Callable[..., State], *args: object, **options: object) -> Write:
    def write(folder: Path) -> Path:
        path = folder / f"{folder.name}.safetensors"
        save_file(state(*args, **options), path)
        return path

    return write


def diffusers_folder(name: str, **sizes: object) -> Write:
    def write(folder: Path) -> Path:
        getattr(diffusers, name)(**sizes).save_pretrained(folder)
        return folder / f"{DIFFUSERS_STEM}.safetensors"

    return write


def in_original(write: Write, state: Callable[[Path], State]) -> Write:
    """What a diffusers folder holds, in the original layout."""

    def rewrite(folder: Path) -> Path:
        source = folder / "diffusers"
        write(source)
        return file_of(state, source)(folder)

    return rewrite


def wan_state(folder: Path) -> State:
    encoder, decoder = (in_layout(half.network, LAYOUT[autoencoder_wan, "original"]) for half in plain_vae(folder))
    return encoder | decoder


def bare_decoder() -> State:
    return {key.removeprefix("decoder."): value for key, value in vae_state(32, parts=["decoder"]).items()}


def learnt(kind: LatentKind, steps: int) -> Write:
    def write(folder: Path) -> Path:
        pairs = [make_pair(torch.randn(1, kind.channels, 12, 12), torch.rand(1, 3, 96, 96)) for _ in range(4)]
        *_, (found, _) = train_previewer_on(pairs, steps) if steps else [(learn_readout(pairs), 0)]
        write_learnt(kind, found, folder / "shared by somebody.safetensors")
        return folder / "shared by somebody.safetensors"

    return write


WAN = diffusers_folder("AutoencoderKLWan", base_dim=8, z_dim=16)
CONSISTENCY = diffusers_folder(
    "ConsistencyDecoderVAE",
    encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 64, 64),
)  # fmt: skip
DC = diffusers_folder("AutoencoderDC", latent_channels=32, scaling_factor=0.3189, **DC_SIZES)


UNET = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}

TINY: dict[str, tuple[str, Write]] = {
    **{name: (name, file_of(both_parts, name)) for name in FAMILIES},
    **{name: (family, file_of(both_parts, family, decoder)) for name, (family, decoder) in VARIANTS.items()},
}
FULL: dict[str, tuple[object, Write]] = {
    **{f"KL of {channels}": (autoencoder_kl, file_of(vae_state, channels)) for channels in (4, 16, 32)},
    "KL in diffusers' layout": (autoencoder_kl, file_of(vae_state, 4, LAYOUT[autoencoder_kl, "diffusers"])),
    "KL in a checkpoint": (autoencoder_kl, file_of(lambda: UNET | vae_state(prefix="first_stage_model."))),
    "KL, a bare decoder": (autoencoder_kl, file_of(bare_decoder)),
    "Wan in diffusers' layout": (autoencoder_wan, WAN),
    "Wan": (autoencoder_wan, in_original(WAN, wan_state)),
    "DC-AE in diffusers' layout": (autoencoder_dc, DC),
    "DC-AE": (autoencoder_dc, in_original(DC, dc_in_original_layout)),
    "Consistency Decoder in diffusers' layout": (consistency_decoder, CONSISTENCY),
    "Consistency Decoder": (consistency_decoder, in_original(CONSISTENCY, consistency_in_original_layout)),
}
PREVIEWERS: dict[str, tuple[LatentKind, Write]] = {
    "read-out": (LEARNT[0], learnt(LEARNT[0], 0)),
    "previewer": (LEARNT[1], learnt(LEARNT[1], 1)),
    "previewer of one VAE": (LEARNT[2], learnt(LEARNT[2], 1)),
}
NOBODYS: dict[str, Write] = {
    "checkpoint without a VAE": file_of(lambda: UNET),
    "Approx NN": file_of(lambda: nn.Sequential(nn.Conv2d(4, 8, 7), nn.Conv2d(8, 16, 5)).state_dict()),
    "latent": file_of(lambda: {"latent": torch.zeros(1, 16, 8, 8)}),
    **{path.stem: lambda folder, path=path: path for path in sorted(DATA.glob("*.safetensors"))},
}
KINDS: dict[str, tuple[tuple[object, ...], Write]] = {
    **{name: ((family, None, None), write) for name, (family, write) in TINY.items()},
    **{name: (("", models, None), write) for name, (models, write) in FULL.items()},
    **{name: (("", None, kind), write) for name, (kind, write) in PREVIEWERS.items()},
    **{name: (("", None, None), write) for name, write in NOBODYS.items()},
}
"""What each is: a family of tiny decoders, the network of a full VAE, the latents of a previewer."""


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_what_it_is_and_nothing_else(name: str, tmp_path: Path) -> None:
    expected, write = KINDS[name]
    folder = tmp_path / name.replace(" ", "_").replace("'", "")
    folder.mkdir()
    path = write(folder)
    file = open_tensor_file(path)
    layout = find_layout(file)
    networks = find_networks(file, *layout, read_config(path)) if layout else {}
    served = [kind for kind in LEARNT if find_learnt(kind, [path.parent])]
    tiny = identify(path)
    assert (tiny.family if tiny.is_autoencoder else "") == expected[0]
    assert (layout[0].models if networks else None) is expected[1]
    assert served == ([expected[2]] if expected[2] else [])
