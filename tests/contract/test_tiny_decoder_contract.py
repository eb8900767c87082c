"""A decoder that `learn --tiny` made, in the host's own built-in TAESD."""

import os
from pathlib import Path
from types import SimpleNamespace

import torch
from extracted import extract
from host_source import HostSource
from random_weights import random_weights
from torch import nn

from taesd_ext.commands.learn_vae import decoder_file
from taesd_ext.models.tiny import Decoder

FILE = "modules/sd_vae_taesd.py"


def test_the_hosts_built_in_taesd_takes_a_learnt_decoder(source: HostSource, tmp_path: Path) -> None:
    path = tmp_path / "taesd_decoder.pth"
    decoder = Decoder(4)
    decoder.load_state_dict(random_weights(decoder))
    path.write_bytes(decoder_file(decoder, "taesd", path.suffix))
    names = [name for name in ("conv", "Clamp", "Block", "decoder", "TAESDDecoder") if name in source_names(source)]
    theirs = extract(
        source, FILE, *names, nn=nn, torch=torch, os=os, devices=SimpleNamespace(device=torch.device("cpu")),
        load_torch_file=lambda file, **_: torch.load(file, weights_only=True),
        load_state_dict=lambda module, state, **_: module.load_state_dict(state),
    )  # fmt: skip
    channels = {"latent_channels": 4} if "latent_channels" in source.parameters(FILE, "TAESDDecoder") else {}
    built_in = theirs["TAESDDecoder"](str(path), **channels)
    latent = torch.randn(1, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(built_in.decoder(latent), decoder(latent), atol=1e-5)


def source_names(source: HostSource) -> set[str]:
    return {node.name for node in source.tree(FILE).body if hasattr(node, "name")}
