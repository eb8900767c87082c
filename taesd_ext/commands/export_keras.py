"""Keras 3: a tiny network as a functional model of plain layers, which TensorFlow, JAX and torch run alike.

Pictures and latents are channels-last there: (B,H,W,3) in [0,1], (B,h,w,C). No Lambda and no own class is used, so
that the file loads anywhere and in Keras' safe mode.
"""

import importlib.util
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from taesd_ext.errors import TaesdError
from taesd_ext.models.layers import Conv2d, GroupNorm, ReLU, Sequential, Upsample
from taesd_ext.models.tiny import CLAMP_MAGNITUDE, PATCH, Block, Clamp, FoldPatches, TinyNetwork, UnfoldPatches

_LAST = {"data_format": "channels_last"}


def keras_bytes(network: TinyNetwork, name: str, size: tuple[int, int] | None = None) -> bytes:
    """The ``.keras`` file of a network, for pictures of one (H, W) or of any. Raises TaesdError without Keras 3."""
    encodes, factor = network.part == "encoder", network.spatial_scale_factor
    if size and (size[0] % factor or size[1] % factor):
        raise TaesdError(f"{size[1]}x{size[0]} is not a multiple of {factor}", "", "Give a size that is")
    if next(network.parameters()).dtype != torch.float32:
        raise TaesdError("Cannot write Keras models in half precision", "", "Use --dtype fp32; Keras can cast it")
    keras = _import_keras()
    step = 1 if encodes else factor
    sides = (size[0] // step, size[1] // step) if size else (None, None)
    source = keras.Input((*sides, 3 if encodes else network.latent_channels), name="image" if encodes else "latent")
    writer = _Writer(keras.layers)
    model = keras.Model(source, writer.write(network, source), name=name)
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


class _Writer:
    """Calls Keras' layers in place of torch's. Weights are kept until the model is built."""

    def __init__(self, layers: Any) -> None:
        self._layers = layers
        self.weights: list[tuple[Any, list[Tensor]]] = []

    def write(self, layer: nn.Module, x: Any) -> Any:
        """A layer's output, as a Keras tensor."""
        layers = self._layers
        if isinstance(layer, Sequential):
            for each in layer:
                x = self.write(each, x)
            return x
        if isinstance(layer, Block):
            if layer.pool is not None:
                x = layers.Add()([x, self.write(layer.pool, x)])
            return layers.ReLU()(layers.Add()([self.write(layer.conv, x), x]))
        if isinstance(layer, Conv2d):
            if layer.padding[0]:
                # TensorFlow's "same" pads a strided convolution at the right and lower edge alone.
                x = layers.ZeroPadding2D(layer.padding[0], **_LAST)(x)
            return self._conv(layers.Conv2D, x, layer.out_channels, layer.weight, layer.bias, layer.stride[0])
        if isinstance(layer, FoldPatches):
            folded = layer.image_channels * PATCH**2
            opaque = (torch.arange(folded) >= 3 * PATCH**2).float()  # an alpha that is not there
            return self._conv(layers.Conv2D, x, folded, patch_kernel(folded), opaque, PATCH)
        if isinstance(layer, UnfoldPatches):
            return self._conv(layers.Conv2DTranspose, x, 3, patch_kernel(x.shape[-1]), None, PATCH)
        if isinstance(layer, GroupNorm):
            norm = layers.GroupNormalization(layer.num_groups, axis=-1, epsilon=layer.eps)
            self.weights.append((norm, [layer.weight, layer.bias]))
            return norm(x)
        if isinstance(layer, ReLU):
            return layers.ReLU()(x)
        if isinstance(layer, Upsample):
            return layers.UpSampling2D(2, interpolation="nearest", **_LAST)(x)
        if isinstance(layer, Clamp):
            x = layers.Rescaling(1 / CLAMP_MAGNITUDE)(x)
            return layers.Rescaling(CLAMP_MAGNITUDE)(layers.Activation("tanh")(x))
        name = type(layer).__name__
        raise TaesdError(f"Cannot export a layer of kind {name}", "Keras has no match", "Use --format safetensors")

    def _conv(self, kind: Any, x: Any, channels: int, weight: Tensor, bias: Tensor | None, stride: int) -> Any:
        layer = kind(channels, tuple(weight.shape[2:]), strides=stride, use_bias=bias is not None, **_LAST)
        # Keras has (height, width, in, out) of a convolution, (height, width, out, in) of a transposed one.
        kernel = weight.permute(2, 3, 1, 0)
        self.weights.append((layer, [kernel] if bias is None else [kernel, bias]))
        return layer(x)


def patch_kernel(folded: int) -> Tensor:
    """(folded,3,2,2): folds each pixel of a patch into a channel of its own, or unfolds it, and leaves alpha out."""
    return torch.eye(folded, 3 * PATCH**2).reshape(folded, 3, PATCH, PATCH)
