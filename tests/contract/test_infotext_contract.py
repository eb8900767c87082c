"""What the host writes into a picture's parameters about a VAE of ours, it reads back as the same choice."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from extracted import extract
from host_source import HostSource

from taesd_ext.codec.codec import Source
from taesd_ext.host.accordion import pasted_final_vae
from taesd_ext.host.infotext import decoded_again
from taesd_ext.settings import HOSTS_VAE, INFOTEXT_VAE

FILE = "modules/infotext_utils.py"


TITLES = ("anime", "a, b: c", "Größe 2.0 (best)", "日本", "x\nSteps: 5, y", "VAE: none")


@pytest.mark.parametrize("title", TITLES)
def test_a_vae_of_any_name_comes_back(source: HostSource, title: str) -> None:
    host = extract(source, FILE, "quote", "unquote", "re_param_code", "re_param", json=json, re=re)
    written = {"Steps": 20, "Model": "m", INFOTEXT_VAE: f"{title} (0123456789)", "Version": "1.10.1"}
    line = ", ".join(f"{key}: {host['quote'](value)}" for key, value in written.items())
    read = {key: host["unquote"](value) for key, value in host["re_param"].findall(line)}
    assert read.keys() == written.keys()
    assert pasted_final_vae(read, HOSTS_VAE) == title


@pytest.mark.parametrize("title", [*TITLES, "sd-vae-ft-mse"])
@pytest.mark.parametrize("decoder", ["", ", VAE Decoder: TAESD, TAESD model: taesd decoder 1a2b3c4d"])
def test_a_picture_decoded_again_by_a_full_vae_asks_for_it(source: HostSource, title: str, decoder: str) -> None:
    host = extract(source, FILE, "unquote", "re_param_code", "re_param", json=json, re=re)
    codec = SimpleNamespace(name=title, image_scale=1, source=Source(decoder=Path(f"{title}.safetensors")))
    again = decoded_again(f"scene\nSteps: 20, Model: m{decoder}, Version: 1.10.1", codec)
    read = {key: host["unquote"](value) for key, value in host["re_param"].findall(again.split("\n", 1)[1])}
    assert list(read) == ["Steps", "Model", INFOTEXT_VAE, "Decoded again", "Version"]
    assert pasted_final_vae(read, HOSTS_VAE) == title
