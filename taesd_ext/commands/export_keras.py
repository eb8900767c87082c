"""Keras 3: a tiny network as a functional model of plain layers, which TensorFlow, JAX and torch run alike.

Pictures and latents are channels-last there: (B,H,W,3) in [0,1], (B,h,w,C). No Lambda and no own class is used, so
that the file loads anywhere and in Keras' safe mode.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from taesd_ext.commands.export_graph import write_network
from taesd_ext.errors import TaesdError
from taesd_ext.models.tiny import CLAMP_MAGNITUDE

LAST = "channels_last"


def keras_bytes(network: nn.Sequential, name: str, channels: int, size: tuple[int, int] | None) -> bytes:
    """The ``.keras`` file of a network that takes ``channels`` channels, for one (H, W) or for any.

    Raises TaesdError without Keras 3.
    """
    keras = _import_keras()
    if next(network.parameters()).dtype != torch.float32:
        raise TaesdError("Cannot write Keras models in half precision", "", "Use --dtype fp32; Keras can cast it")
    writer = _KerasWriter(keras)
    source = keras.Input((*(size or (None, None)), channels), name="image" if channels == 3 else "latent")
    result = write_network(network, writer, source)
    model = keras.Model(source, result, name=name)
    for layer, values in writer.weights:
        layer.set_weights([value.detach().contiguous().numpy() for value in values])
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.keras"
        model.save(path)
        return path.read_bytes()


def _import_keras() -> Any:
    if "KERAS_BACKEND" not in os.environ and importlib.util.find_spec("tensorflow") is None:
        os.environ["KERAS_BACKEND"] = "torch"  # Keras itself insists on TensorFlow unless told otherwise
    try:
        import keras
    except ImportError as error:
        raise TaesdError(
            "Cannot write a Keras model", f"the package keras is missing ({error})", "pip install 'taesd-ext[keras]'"
        ) from error
    if int(keras.__version__.split(".")[0]) < 3:
        raise TaesdError("Cannot write a Keras model", f"Keras {keras.__version__} is too old", "pip install -U keras")
    return keras


class _KerasWriter:
    """Calls layers; a handle is a Keras tensor. Weights are kept until the model is built."""

    def __init__(self, keras: Any) -> None:
        self._layers = keras.layers
        self.weights: list[tuple[Any, list[Tensor]]] = []

    def conv(self, x: Any, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Any:
        if padding:
            # TensorFlow's "same" pads a strided convolution at the right and lower edge alone.
            x = self._layers.ZeroPadding2D(padding, data_format=LAST)(x)
        layer = self._layers.Conv2D(
            weight.shape[0], tuple(weight.shape[2:]), strides=stride, use_bias=bias is not None, data_format=LAST
        )
        values = [weight.permute(2, 3, 1, 0)]
        self.weights.append((layer, values if bias is None else [*values, bias]))
        return layer(x)

    def conv_transpose(self, x: Any, weight: Tensor, stride: int) -> Any:
        layer = self._layers.Conv2DTranspose(
            weight.shape[1], tuple(weight.shape[2:]), strides=stride, use_bias=False, data_format=LAST
        )
        self.weights.append((layer, [weight.permute(2, 3, 1, 0)]))
        return layer(x)

    def relu(self, x: Any) -> Any:
        return self._layers.ReLU()(x)

    def add(self, x: Any, y: Any) -> Any:
        return self._layers.Add()([x, y])

    def double(self, x: Any) -> Any:
        return self._layers.UpSampling2D(2, interpolation="nearest", data_format=LAST)(x)

    def clamp(self, x: Any) -> Any:
        x = self._layers.Rescaling(1 / CLAMP_MAGNITUDE)(x)
        return self._layers.Rescaling(CLAMP_MAGNITUDE)(self._layers.Activation("tanh")(x))

    def group_norm(self, x: Any, norm: nn.GroupNorm) -> Any:
        layer = self._layers.GroupNormalization(norm.num_groups, axis=-1, epsilon=norm.eps)
        self.weights.append((layer, [norm.weight, norm.bias]))
        return layer(x)
