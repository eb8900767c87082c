"""Every kind of weight file against every reader: its own reader claims it, for what it is, and no other one does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers_vaes import CONSISTENCY, DC, WAN, reference, saved
from full_vae_files import vae_state
from narrow_files import VARIANTS, both_parts
from original_layouts import State, in_original_layout
from safetensors.torch import save_file
from torch import nn

from taesd_ext import load_codec
from taesd_ext.codec.previewer import DATA
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.learning.pairs import LatentKind, make_pair
from taesd_ext.learning.readout import find_learnt, learn_readout, train_previewer_on, write_learnt
from taesd_ext.models import autoencoder_dc, autoencoder_kl, autoencoder_wan, consistency_decoder
from taesd_ext.weights.folders import DIFFUSERS_STEM
from taesd_ext.weights.identify import UNVERIFIED, identify
from taesd_ext.weights.installed import candidates, installed
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.tiny_file import PARTS
from taesd_ext.weights.vae_file import find_layout, find_networks, read_config

LEARNT = (LatentKind("Qwen", 16), LatentKind("Invented", 24), LatentKind("Other", 24, "VAE"), LatentKind("Other", 24))
UNET = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}

Write = Callable[[Path], Path]
"""Writes a file into a folder and gives its place."""


def file_of(state: Callable[..., State], *args: object, **options: object) -> Write:
    def write(folder: Path) -> Path:
        path = folder / f"{folder.name}.safetensors"
        save_file(state(*args, **options), path)
        return path

    return write


def by_diffusers(name: str) -> Write:
    return lambda folder: saved(reference(name), folder) / f"{DIFFUSERS_STEM}.safetensors"


def bare_decoder() -> State:
    return {key.removeprefix("decoder."): value for key, value in vae_state(32, parts=["decoder"]).items()}


def learnt(kind: LatentKind, steps: int) -> Write:
    def write(folder: Path) -> Path:
        pairs = [make_pair(torch.randn(1, kind.channels, 12, 12), torch.rand(1, 3, 96, 96)) for _ in range(4)]
        *_, (found, _) = train_previewer_on(pairs, steps) if steps else [(learn_readout(pairs), 0)]
        write_learnt(kind, found, folder / "shared by somebody.safetensors")
        return folder / "shared by somebody.safetensors"

    return write


TINY: dict[str, tuple[str, Write]] = {
    **{name: (name, file_of(both_parts, name)) for name in FAMILIES},
    **{name: (family, file_of(both_parts, family, decoder)) for name, (family, decoder) in VARIANTS.items()},
}
MODELS = {WAN: autoencoder_wan, DC[0]: autoencoder_dc, CONSISTENCY: consistency_decoder}
FULL: dict[str, tuple[object, Write]] = {
    **{f"KL of {channels}": (autoencoder_kl, file_of(vae_state, channels)) for channels in (4, 16, 32)},
    "KL by diffusers": (autoencoder_kl, by_diffusers("sd15-vae")),
    "KL in a checkpoint": (autoencoder_kl, file_of(lambda: UNET | vae_state(prefix="first_stage_model."))),
    "KL, a bare decoder": (autoencoder_kl, file_of(bare_decoder)),
    **{f"{name} by diffusers": (models, by_diffusers(name)) for name, models in MODELS.items()},
    **{
        name: (models, file_of(lambda name=name: in_original_layout(name, reference(name).state_dict())))
        for name, models in MODELS.items()
    },
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
    (family, models, kind), write = KINDS[name]
    folder = tmp_path / name.replace(" ", "_")
    folder.mkdir()
    path = write(folder)
    file = open_tensor_file(path)
    layout = find_layout(file)
    networks = find_networks(file, *layout, read_config(path)) if layout else {}
    assert (layout[0].models if networks else None) is models
    assert [one for one in LEARNT if find_learnt(one, [path.parent])] == ([kind] if kind else [])
    served = {(one, part) for one in FAMILIES for part in PARTS if candidates(one, part, [folder])}
    assert served == {(family, part) for part in PARTS if family}
    if family:
        found, row = identify(path), native_format(family)
        assert (found.state, found.family, found.parts) == (UNVERIFIED, family, PARTS)
        assert installed([folder]) == {family: dict.fromkeys(PARTS, path)}
        codec = load_codec(family, models_dir=folder)
        image = codec.decode(torch.zeros(1, row.latent_channels, 1, 2))
        assert image.shape == (1, 3, row.spatial_scale_factor, 2 * row.spatial_scale_factor)
        assert codec.encode(image).shape == (1, row.latent_channels, 1, 2)
