"""While a host loads a checkpoint in one thread, codecs are loaded and used in others, as without it."""

from functools import partialmethod

import pytest
import torch
from random_weights import random_weights
from safetensors.torch import save_file
from torch import nn

from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.noise import power_law_latent, seeded
from taesd_ext.models import tiny


def on_no_device(patch):
    """As A1111 builds a model without memory for its weights."""
    for kind in (nn.Conv2d, nn.Linear):
        patch.setattr(kind, "__init__", partialmethod(kind.__init__, device="meta"))
    patch.setattr(nn.Module, "to", lambda *given, **named: None)


def into_no_device(patch):
    """As A1111 fills such a model: its replacement takes no more than these arguments."""
    theirs = nn.Module.load_state_dict

    def load_state_dict(module, state, strict=True):
        theirs(module, state, strict=strict)

    patch.setattr(nn.Module, "load_state_dict", load_state_dict)
    for kind in (nn.Module, nn.Conv2d, nn.Linear, nn.GroupNorm):
        patch.setattr(kind, "_load_from_state_dict", lambda *given: None)


def other_names(patch):
    """As Forge builds a model of its own layers."""
    for name in ("Linear", "Conv2d", "ConvTranspose2d", "GroupNorm", "Embedding"):
        patch.setattr(nn, name, type(name, (getattr(nn, name),), {}))


def half_by_default(patch):
    """As Forge Neo does while it upscales, for all threads."""
    torch.set_default_dtype(torch.float16)


@pytest.fixture
def host(request, monkeypatch):
    yield lambda: request.param(monkeypatch)
    monkeypatch.undo()
    torch.set_default_dtype(torch.float32)


def outputs(path):
    codec, narrow = (load_codec(path, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    latent = torch.linspace(-2, 2, 4 * 30 * 24, dtype=torch.float32).sin().view(1, 4, 30, 24)
    image = torch.linspace(0, 1, 3 * 16 * 24, dtype=torch.float32).view(1, 3, 16, 24)
    in_tiles, small = codec.decode(latent, tile=184), narrow.decode(latent[..., :3, :2])
    return [in_tiles, small, codec.encode(image), power_law_latent(4, 16, seeded(0))]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "taesd.safetensors"
    parts = (tiny.Encoder, "encoder."), (tiny.Decoder, "decoder.")
    save_file({key: value for kind, name in parts for key, value in random_weights(kind(4), 4, name).items()}, path)
    return path


@pytest.fixture(scope="module")
def alone(path):
    return outputs(path)


@pytest.mark.parametrize("host", [on_no_device, into_no_device, other_names, half_by_default], indirect=True)
def test_codecs_do_what_they_do_alone(alone, path, host):
    host()
    assert all(torch.equal(one, other) for one, other in zip(alone, outputs(path), strict=True))
