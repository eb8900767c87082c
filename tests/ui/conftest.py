"""A playground with weights made of random numbers: the pages need files, not beautiful pictures."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from taesd_ext.codec import embedded, heads
from taesd_ext.models.tiny import Decoder, Encoder
from taesd_ext.settings import PreviewSettings
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.pictures import sample_picture
from taesd_ext.ui.play import Plan
from taesd_ext.ui.playground import Playground


@pytest.fixture(autouse=True)
def no_shipped_heads(monkeypatch, tmp_path) -> None:
    """They fit no random weights, which takes a while to find out."""
    monkeypatch.setattr(heads, "DATA", tmp_path / "no heads")


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """A folder with taesd_encoder.safetensors and taesd_decoder.safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, (part, network) in enumerate((("encoder", Encoder(4)), ("decoder", Decoder(4)))):
        generator = torch.Generator().manual_seed(seed)
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        state = {key: 0.05 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
        save_file(state, folder / f"taesd_{part}.safetensors")
    return folder


@pytest.fixture
def no_weights(monkeypatch, tmp_path) -> Path:
    """An empty folder, no other place where weights could lie, and no embedded codec."""
    monkeypatch.setattr(embedded, "DATA", tmp_path)
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    return empty


@pytest.fixture
def weights(random_weights, no_weights) -> Path:
    """The random weights in a folder of the test's own, the only one there is."""
    for path in random_weights.iterdir():
        shutil.copy(path, no_weights)
    return no_weights


@pytest.fixture
def playground(weights) -> Playground:
    return Playground(weights)


@pytest.fixture
def generated(playground) -> Playground:
    """After one generation of four steps, titled "secret"."""
    settings = PreviewSettings(family="taesd", budget=0.0, min_time=0, detail="full")
    plan = Plan(sample_picture("Leaves"), 32, 4, 0.0, settings, "secret")
    list(playground.replays.run(plan, int))
    return playground


@pytest.fixture
def actions(generated) -> PanelActions:
    return generated.actions()
