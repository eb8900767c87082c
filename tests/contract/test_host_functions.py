"""What the host's own functions make of ours: infotexts, an option's help, and a decoder that was learnt."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from extracted import extract
from host_source import HostSource
from random_weights import random_weights
from shown_texts import shown_texts
from torch import nn

from taesd_ext.codec.codec import Source
from taesd_ext.commands.learn_vae import decoder_file
from taesd_ext.host.accordion import pasted_final_vae
from taesd_ext.host.infotext import decoded_again
from taesd_ext.host.webui import WebUI
from taesd_ext.models.tiny import Decoder
from taesd_ext.settings import HOSTS_VAE, INFOTEXT_VAE

TITLES = ("anime", "a, b: c", "Größe 2.0 (best)", "日本", "x\nSteps: 5, y", "VAE: none")
TAESD = "modules/sd_vae_taesd.py"


@pytest.fixture
def infotext(source: HostSource) -> SimpleNamespace:
    """``quote`` writes a value, ``read`` gives those of a line."""
    names = ("quote", "unquote", "re_param_code", "re_param")
    host = extract(source, "modules/infotext_utils.py", *names, json=json, re=re)
    return SimpleNamespace(
        quote=host["quote"],
        read=lambda line: {key: host["unquote"](value) for key, value in host["re_param"].findall(line)},
    )


@pytest.mark.parametrize("title", TITLES)
def test_a_vae_of_any_name_comes_back(infotext: SimpleNamespace, title: str) -> None:
    written = {"Steps": 20, "Model": "m", INFOTEXT_VAE: f"{title} (0123456789)", "Version": "1.10.1"}
    read = infotext.read(", ".join(f"{key}: {infotext.quote(value)}" for key, value in written.items()))
    assert read.keys() == written.keys()
    assert pasted_final_vae(read, HOSTS_VAE) == title


@pytest.mark.parametrize("title", [*TITLES, "sd-vae-ft-mse"])
@pytest.mark.parametrize("decoder", ["", ", VAE Decoder: TAESD, TAESD model: taesd decoder 1a2b3c4d"])
def test_a_picture_decoded_again_by_a_full_vae_asks_for_it(infotext: SimpleNamespace, title: str, decoder: str) -> None:
    codec = SimpleNamespace(name=title, image_scale=1, source=Source(decoder=Path(f"{title}.safetensors")))
    again = decoded_again(f"scene\nSteps: 20, Model: m{decoder}, Version: 1.10.1", codec)
    read = infotext.read(again.split("\n", 1)[1])
    assert list(read) == ["Steps", "Model", INFOTEXT_VAE, "Decoded again", "Version"]
    assert pasted_final_vae(read, HOSTS_VAE) == title


def test_the_help_of_an_option_stands_alone(source: HostSource) -> None:
    """So that the host's localization can translate it."""
    given = extract(source, "modules/options.py", "OptionInfo", dataclass=dataclass)
    added = {}
    host = WebUI.__new__(WebUI)
    host._options = SimpleNamespace(OptionInfo=given["OptionInfo"])
    host.shared = SimpleNamespace(opts=SimpleNamespace(add_option=added.__setitem__))
    host.add_option("key", 1, "label", "a < b & the WebUI's", ("ui", "Live previews"))
    assert shown_texts(added["key"].comment_after) == ["(", "a < b & the WebUI's", ")"]


def test_the_hosts_built_in_taesd_takes_a_learnt_decoder(source: HostSource, tmp_path: Path) -> None:
    path = tmp_path / "taesd_decoder.pth"
    decoder = Decoder(4)
    decoder.load_state_dict(random_weights(decoder))
    path.write_bytes(decoder_file(decoder, "taesd", path.suffix))
    there = {getattr(node, "name", "") for node in source.tree(TAESD).body}
    theirs = extract(
        source, TAESD, *there & {"conv", "Clamp", "Block", "decoder", "TAESDDecoder"}, nn=nn, torch=torch, os=os,
        devices=SimpleNamespace(device=torch.device("cpu")),
        load_torch_file=lambda file, **_: torch.load(file, weights_only=True),
        load_state_dict=lambda module, state, **_: module.load_state_dict(state),
    )  # fmt: skip
    channels = {"latent_channels": 4} if "latent_channels" in source.parameters(TAESD, "TAESDDecoder") else {}
    built_in = theirs["TAESDDecoder"](str(path), **channels)
    latent = torch.randn(1, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(built_in.decoder(latent), decoder(latent), atol=1e-5)
