"""Exports run in the programs that they are for, and give what the torch networks give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from seeded_networks import network_of
from small_pictures import digests

from taesd_ext import TaesdError, cli, load_codec
from taesd_ext.commands.export_keras import keras_bytes
from taesd_ext.commands.export_onnx import onnx_bytes
from taesd_ext.models import tiny
from taesd_ext.weights.tiny_file import PARTS, read_tiny

KINDS = pytest.mark.parametrize(
    ("kind", "part"),
    [*((kind, part) for kind in ("taesd", "taef2", "taesana", "qwen21") for part in PARTS), ("qwen21-rgb", "decoder")],
)


def inputs_for(network: tiny.TinyNetwork, height: int, width: int, batch: int = 1) -> torch.Tensor:
    """What it takes, with latents of this size."""
    generator, factor = torch.Generator().manual_seed(1), network.spatial_scale_factor
    if network.part == "encoder":
        return torch.rand(batch, 3, height * factor, width * factor, generator=generator)
    return torch.randn(batch, network.latent_channels, height, width, generator=generator) * 2


def run_onnx(data: bytes, x: torch.Tensor) -> torch.Tensor:
    runtime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (only,) = session.get_inputs()
    return torch.from_numpy(session.run(None, {only.name: x.numpy()})[0])


@KINDS
def test_onnx_agrees_at_any_size_and_batch(kind, part):
    onnx = pytest.importorskip("onnx", reason="needs the extra: onnx")
    network = network_of(kind, part)
    data = onnx_bytes(network, {"family": kind})
    model = onnx.load_from_string(data)
    assert {note.key: note.value for note in model.metadata_props} == {"family": kind}
    for size in (3, 2, 1), (2, 5, 2):
        x = inputs_for(network, *size)
        assert (run_onnx(data, x) - network(x)).abs().max() <= 1e-4


def test_onnx_in_half_precision():
    pytest.importorskip("onnx", reason="needs the extra: onnx")
    network = network_of("taesd", "decoder")
    x = inputs_for(network, 4, 4)
    data = onnx_bytes(network.half(), {})
    assert len(data) < 2.6e6
    assert (run_onnx(data, x.half()).float() - network.float()(x)).abs().max() < 0.02
    with pytest.raises(TaesdError):
        onnx_bytes(network.bfloat16(), {})


@pytest.fixture(scope="module")
def keras():
    """Keras 3 on the torch backend, which is here anyway."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="needs the package keras")


@KINDS
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_agrees_and_loads_in_safe_mode(kind, part, keras, tmp_path):
    network = network_of(kind, part)
    path = tmp_path / "model.keras"
    path.write_bytes(keras_bytes(network, f"{kind}_{part}".replace("-", "_")))
    model = keras.models.load_model(path, safe_mode=True)
    for size in (3, 2, 1), (2, 4, 2):
        x = inputs_for(network, *size)
        result = model(x.permute(0, 2, 3, 1).contiguous(), training=False)
        result = torch.as_tensor(keras.ops.convert_to_numpy(result)).permute(0, 3, 1, 2)
        assert (result - network(x)).abs().max() <= 1e-4


def test_keras_of_one_size(keras, models, tmp_path):
    assert export(models, tmp_path, "--format", "keras", "--size", "64x48") == 0
    encoder = keras.models.load_model(tmp_path / "taesd_encoder.keras")
    decoder = keras.models.load_model(tmp_path / "taesd_decoder.keras")
    assert (encoder.input_shape, encoder.output_shape) == ((None, 48, 64, 3), (None, 6, 8, 4))
    assert (decoder.input_shape, decoder.output_shape) == ((None, 6, 8, 4), (None, 48, 64, 3))


_TENSORFLOW_SIDE = """
import sys
import numpy as np
import keras
assert keras.backend.backend() == "tensorflow", keras.backend.backend()
model = keras.models.load_model(sys.argv[1])
arrays = np.load(sys.argv[2])
result = keras.ops.convert_to_numpy(model(arrays["x"], training=False))
print(float(np.abs(result - arrays["y"]).max()))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "part"), [("taesd", "encoder"), ("taef2", "decoder")])
def test_keras_under_tensorflow(kind, part, tmp_path, keras):
    """TAESD_TF_PYTHON may name a Python with TensorFlow, which is too large for everybody's environment."""
    python = os.environ.get("TAESD_TF_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import tensorflow"], capture_output=True).returncode:
        pytest.skip("needs TensorFlow, here or in the Python that TAESD_TF_PYTHON names")
    network = network_of(kind, part)
    (tmp_path / "model.keras").write_bytes(keras_bytes(network, f"{kind}_{part}"))
    x = inputs_for(network, 12, 9, batch=2)
    arrays = {"x": x, "y": network(x)}
    np.savez(tmp_path / "xy.npz", **{name: value.permute(0, 2, 3, 1).numpy() for name, value in arrays.items()})
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    script = [python, "-c", _TENSORFLOW_SIDE, str(tmp_path / "model.keras"), str(tmp_path / "xy.npz")]
    ran = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert float(ran.stdout.split()[-1]) <= 1e-4


def export(models: Path, output: Path, *more: str) -> int:
    return cli.main(["export", "-o", str(output), "--models", str(models), *more])


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_original_layout(models, tmp_path, dtype, kind):
    assert export(models, tmp_path / "both.safetensors", "--dtype", dtype) == 0
    assert export(models, tmp_path / "split", "--dtype", dtype) == 0
    together = read_tiny(tmp_path / "both.safetensors")
    for part in PARTS:
        wanted = {key: value.to(kind) for key, value in network_of("taesd", part).state_dict().items()}
        found = safetensors.torch.load_file(tmp_path / "split" / f"taesd_{part}.safetensors")
        assert list(found) == sorted(wanted)
        assert all(torch.equal(found[key], value) and found[key].dtype == kind for key, value in wanted.items())
        state = together[part].build().state_dict()
        assert all(torch.equal(value, wanted[key].float()) for key, value in state.items())


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_diffusers_loads_its_layout(models, tmp_path, dtype):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra: test")
    assert export(models, tmp_path / "folder", "--layout", "diffusers", "--dtype", dtype) == 0
    theirs = diffusers.AutoencoderTiny.from_pretrained(tmp_path / "folder", local_files_only=True).float().eval()
    ours, latent = load_codec(tmp_path / "folder"), torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        back = theirs.decode(latent).sample / 2 + 0.5
    assert (ours.decode(latent) - back.clamp(0, 1)).abs().max() <= 1e-4


REFUSED = {
    "half a diffusers folder": (["--layout", "diffusers", "--part", "encoder"], "folder", "both parts"),
    "diffusers in a file": (["--layout", "diffusers"], "x.safetensors", "is not a folder"),
    "two networks in one ONNX file": (["--format", "onnx"], "x.onnx", "two networks"),
    "a wrong suffix": (["--format", "onnx", "--part", "decoder"], "x.keras", "x.onnx"),
    "half precision for Keras": (["--format", "keras", "--dtype", "fp16"], "folder", "half precision"),
    "another network than diffusers'": (["--family", "taef2", "--layout", "diffusers"], "x", "diffusers has no"),
    "a missing part": (["--family", "taef1"], "x", "no tiny encoder for taef1"),
    "no such family": (["--family", "nothing"], "folder", "does not exist"),
    "an odd size": (["--format", "keras", "--size", "65x64"], "folder", "not a multiple of 8"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_is_said(kind, models, tmp_path, capsys, keras):
    more, name, reason = REFUSED[kind]
    assert export(models, tmp_path / name, *more) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert "object at" not in said
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("package", ["onnx", "keras"])
def test_a_missing_package_is_named(package, models, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert export(models, tmp_path / "folder", "--format", package) == 1
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_weights_are_never_written_over_themselves(more, layout, models, tmp_path):
    """A mistyped -o must not put rounded weights in the place of the only good ones."""
    source, family = tmp_path / "models", "taesd"
    shutil.copytree(models, source)
    if layout == "diffusers":
        assert export(models, tmp_path / "taesd", "--layout", "diffusers") == 0
        source, family = tmp_path / "taesd", str(tmp_path / "taesd")
    before = digests(source)
    assert export(source, source, "--family", family, "--layout", layout, "--dtype", "fp16", *more) == 1
    assert digests(source) == before
