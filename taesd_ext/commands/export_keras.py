"""Keras 3: a tiny network as a functional model of plain layers, which TensorFlow, JAX and torch run alike.

Pictures and latents are channels-last there: (B,H,W,3) in [0,1], (B,h,w,C). No Lambda and no own class is used, so
that the file loads anywhere and in Keras' safe mode.
"""

import importlib.util
import os
from collections.abc import Callable
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
        self.layers = layers
        self.weights: list[tuple[Any, list[Tensor]]] = []

    def write(self, layer: nn.Module, x: Any) -> Any:
        """A layer's output, as a Keras tensor."""
        form = next((_FORMS[kind] for kind in type(layer).__mro__ if kind in _FORMS), None)
        if form is None:
            name = type(layer).__name__
            raise TaesdError(f"Cannot export a layer of kind {name}", "Keras has no match", "Use --format safetensors")
        return form(self, layer, x)

    def in_turn(self, layers: Sequential, x: Any) -> Any:
        for layer in layers:
            x = self.write(layer, x)
        return x

    def block(self, block: Block, x: Any) -> Any:
        if block.pool is not None:
            x = self.layers.Add()([x, self.write(block.pool, x)])
        return self.layers.ReLU()(self.layers.Add()([self.write(block.conv, x), x]))

    def conv2d(self, conv: Conv2d, x: Any) -> Any:
        if conv.padding[0]:
            # TensorFlow's "same" pads a strided convolution at the right and lower edge alone.
            x = self.layers.ZeroPadding2D(conv.padding[0], **_LAST)(x)
        return self._conv(self.layers.Conv2D, x, conv.out_channels, conv.weight, conv.bias, conv.stride[0])

    def fold(self, layer: FoldPatches, x: Any) -> Any:
        folded = layer.image_channels * PATCH**2
        opaque = (torch.arange(folded) >= 3 * PATCH**2).float()  # an alpha that is not there
        return self._conv(self.layers.Conv2D, x, folded, patch_kernel(folded), opaque, PATCH)

    def unfold(self, _layer: UnfoldPatches, x: Any) -> Any:
        return self._conv(self.layers.Conv2DTranspose, x, 3, patch_kernel(x.shape[-1]), None, PATCH)

    def norm(self, layer: GroupNorm, x: Any) -> Any:
        norm = self.layers.GroupNormalization(layer.num_groups, axis=-1, epsilon=layer.eps)
        self.weights.append((norm, [layer.weight, layer.bias]))
        return norm(x)

    def clamp(self, _layer: Clamp, x: Any) -> Any:
        x = self.layers.Rescaling(1 / CLAMP_MAGNITUDE)(x)
        return self.layers.Rescaling(CLAMP_MAGNITUDE)(self.layers.Activation("tanh")(x))

    def _conv(self, kind: Any, x: Any, channels: int, weight: Tensor, bias: Tensor | None, stride: int) -> Any:
        layer = kind(channels, tuple(weight.shape[2:]), strides=stride, use_bias=bias is not None, **_LAST)
        # Keras has (height, width, in, out) of a convolution, (height, width, out, in) of a transposed one.
        kernel = weight.permute(2, 3, 1, 0)
        self.weights.append((layer, [kernel] if bias is None else [kernel, bias]))
        return layer(x)


_FORMS: dict[type, Callable[[_Writer, Any, Any], Any]] = {
    Sequential: _Writer.in_turn,
    Block: _Writer.block,
    Conv2d: _Writer.conv2d,
    FoldPatches: _Writer.fold,
    UnfoldPatches: _Writer.unfold,
    GroupNorm: _Writer.norm,
    Clamp: _Writer.clamp,
    ReLU: lambda writer, _, x: writer.layers.ReLU()(x),
    Upsample: lambda writer, _, x: writer.layers.UpSampling2D(2, interpolation="nearest", **_LAST)(x),
}


def patch_kernel(folded: int) -> Tensor:
    """(folded,3,2,2): folds each pixel of a patch into a channel of its own, or unfolds it, and leaves alpha out."""
    return torch.eye(folded, 3 * PATCH**2).reshape(folded, 3, PATCH, PATCH)
