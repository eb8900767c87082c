"""Weights of the Keras port: saved by a model of its structure, read back, and compared picture by picture."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from taesd_ext import TaesdError, load_codec
from taesd_ext.models import tiny
from taesd_ext.weights.keras_file import read_keras
from taesd_ext.weights.tiny_file import read_tiny

h5py = pytest.importorskip("h5py", reason="needs the extra: keras")


@pytest.fixture(scope="module")
def keras():
    """Keras 3 on the torch backend, which is here anyway."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="needs the package keras")


def port_of(keras, part: str, size: int | None, channels: int = 4):
    """A Keras model of taesd-tf's structure: padding and convolution apart, blocks with a Sequential inside."""
    layers = keras.layers

    def conv(count: int, **more) -> list:
        return [layers.ZeroPadding2D(1), layers.Conv2D(count, 3, **more)]

    class Block(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            parts = [*conv(64), layers.ReLU(), *conv(64), layers.ReLU(), *conv(64)]
            self.conv = keras.Sequential(parts, name="conv")
            self.fuse = layers.ReLU()

        def build(self, shape) -> None:
            self.conv.build(shape)
            super().build(shape)

        def call(self, x):
            return self.fuse(self.conv(x) + x)

    body = [*conv(64)]
    if part == "encoder":
        body += [Block()]
        for _ in range(3):
            body += [*conv(64, strides=2, use_bias=False), Block(), Block(), Block()]
        return keras.Sequential([layers.Input((size, size, 3)), *body, *conv(channels)])
    squash = [layers.Rescaling(1 / 3), layers.Activation("tanh"), layers.Rescaling(3)]
    body += [layers.ReLU()]
    for _ in range(3):
        body += [Block(), Block(), Block(), layers.UpSampling2D(2), *conv(64, use_bias=False)]
    return keras.Sequential([layers.Input((size, size, channels)), *squash, *body, Block(), *conv(3)])


def run_port(model, x: torch.Tensor) -> torch.Tensor:
    result = model(x.permute(0, 2, 3, 1).contiguous(), training=False)
    return torch.as_tensor(np.array(result.detach() if hasattr(result, "detach") else result)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("form", "channels"), [("latent.weights.h5", 4), ("misleading_name_encoder.h5", 16)]
)
def test_a_saved_port_agrees(keras, part, form, channels, tmp_path):
    keras.utils.set_random_seed(3)
    model = port_of(keras, part, 16, channels)
    path = tmp_path / form
    if form.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)  # the layout of Keras 2: layers listed by name, in order
    codec = load_codec(path)
    assert (codec.has_encoder, codec.has_decoder) == (part == "encoder", part == "decoder")
    assert codec.latent_channels == channels

    x = torch.rand(2, 3, 16, 16) if part == "encoder" else torch.randn(2, channels, 16, 16) * 2
    ours = codec.encode(x) if part == "encoder" else codec.decode(x)
    theirs = run_port(model, x)
    theirs = theirs if part == "encoder" else theirs.clamp(0, 1)
    assert (ours - theirs).abs().max() <= 1e-4
    assert theirs.std() > 1e-3


def save_like_keras2(path: Path, network: torch.nn.Sequential, *, names_first: int = 7) -> None:
    """What tf.keras' save_weights wrote: names with numbers of a global counter, and ":0" behind."""
    counter = names_first
    with h5py.File(path, "w") as file:
        for index, module in enumerate(network):
            convs = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
            layer = f"block_{index}" if isinstance(module, tiny.Block) else f"layer_{index}"
            group = file.create_group(layer)
            for conv in convs:
                for kind, value in (("kernel", conv.weight), ("bias", conv.bias)):
                    if value is not None:
                        array = value.detach().permute(2, 3, 1, 0) if value.ndim == 4 else value.detach()
                        group.create_dataset(f"{layer}/conv/conv2d_{counter}/{kind}:0", data=array.numpy())
                counter += 1


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_real_weights_survive_the_layout_of_keras_2(part, weights_dir, tmp_path):
    network = read_tiny(weights_dir / f"taesd_{part}.safetensors")[part].build()
    path = tmp_path / "weights.h5"
    save_like_keras2(path, network)
    found = read_keras(path)
    state = network.state_dict()
    assert list(found) == list(state)
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_without_h5py_it_says_what_to_install(tmp_path, monkeypatch):
    save_like_keras2(tmp_path / "a.h5", tiny.Decoder(4))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(TaesdError, match="pip install"):
        load_codec(tmp_path / "a.h5")


def first_kernel(file) -> str:
    """The path of a kernel of 4 channels."""
    return file.visititems(lambda name, found: name if getattr(found, "shape", None) == SHAPE else None)


def drop_a_layer(file) -> None:
    del file["layer_1"]


def number_a_layer_otherwise(file) -> None:
    file.move("layer_1", "other_1")


def swap_two_layers(file) -> None:
    last = max((name for name in file if name.startswith("layer_")), key=lambda name: int(name.partition("_")[2]))
    for old, new in (("layer_1", "other"), (last, "layer_1"), ("other", last)):
        file.move(old, new)


def nest_without_end(file) -> None:
    group = file.create_group("layers")
    group["again"] = group


def instead(put):
    """The first kernel replaced by what ``put`` makes of the file and its name."""

    def change(file) -> None:
        name = first_kernel(file)
        del file[name]
        put(file, name)

    return change


SHAPE = (3, 3, 4, 64)
KERNELS = {
    "gone": lambda file, name: None,
    "linked": lambda file, name: file.__setitem__(name, h5py.ExternalLink("/etc/other.h5", "/secret")),
    "outside": lambda file, name: file.create_dataset(name, SHAPE, "f4", external=[("/etc/hostname", 0, 9216)]),
    "too much": lambda file, name: file.create_dataset(name, (2**15, 2**15, 4, 64), "f4", chunks=(1, 1, 4, 64)),
    "packed": lambda file, name: file.create_dataset(name, data=np.zeros(SHAPE, "f4"), compression="gzip"),
    "words": lambda file, name: file.__setitem__(name, "words"),
}
CHANGES = [drop_a_layer, swap_two_layers, number_a_layer_otherwise, nest_without_end, *map(instead, KERNELS.values())]


@pytest.mark.parametrize("change", CHANGES, ids=[*(change.__name__ for change in CHANGES[:4]), *KERNELS])
def test_hostile_and_foreign_files_are_refused(change, tmp_path):
    path = tmp_path / "a.h5"
    save_like_keras2(path, tiny.Decoder(4))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(TaesdError, match=r"a\.h5 holds no tiny autoencoder of Keras") as caught:
        load_codec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [8, 9, 60])
def test_a_file_that_ends_in_its_first_bytes_is_refused(length, tmp_path):
    path = tmp_path / "a.h5"
    save_like_keras2(path, tiny.Decoder(4))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(TaesdError):
        load_codec(path)
