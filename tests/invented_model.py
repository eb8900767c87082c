"""What must work after one row for the invented model was added; run by test_new_model_kind.py on a copy."""

import pytest
import torch
from safetensors.torch import save_file

from taesd_ext import load_codec
from taesd_ext.cli import main
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.tiny import Decoder, Encoder

ROW = """
    LatentFormat(
        "invented", "Invented 1", "taeinvented", 16, 8, host_names=("Invented1",), words="invented",
        scaling_factor=0.5, shift=0.25, rgb="wan21",
    ),
"""


@pytest.fixture
def folder(host):
    for part, network in (("encoder", Encoder(16)), ("decoder", Decoder(16))):
        save_file(network.state_dict(), host.folder / f"taeinvented_{part}.safetensors")
    host.load_format("Invented1", 16)
    return host.folder


def test_the_preview_is_its_decoders(host, extension, folder):
    host.generate(on_step=lambda p, step: host.state.set_current_image())
    assert extension.previews.session.frame.family == "taeinvented"
    assert host.state.current_image is not None


def test_the_finished_picture_is_its_decoders(host, folder):
    host.opts.sd_vae_decode_method = "TAESD"
    p, images = host.generate()
    codec = load_codec("taeinvented", models_dir=folder)
    expected = torch.cat([codec.decode(one[None]) for one in p.latents[-1]])
    assert torch.allclose(images, expected, atol=1e-5)


def test_without_a_file_it_is_drawn_by_its_colours(host, extension):
    host.load_format("Invented1", 16)
    host.generate(on_step=lambda p, step: host.state.set_current_image())
    assert extension.previews.session.frame.detail == "linear"


def test_the_list_of_weights_and_a_foreign_name(folder, capsys):
    (folder / "taeinvented_decoder.safetensors").rename(folder / "invented (1).safetensors")
    main(["weights", "list", "--models", str(folder)])
    line = next(line for line in capsys.readouterr().out.splitlines() if "invented (1).safetensors" in line)
    assert line.startswith("taeinvented ")


def test_its_scale():
    row, own = BY_NAME["invented"], torch.randn(1, 16, 2, 2)
    assert torch.allclose(row.from_vae(own), (own - 0.25) * 0.5)
