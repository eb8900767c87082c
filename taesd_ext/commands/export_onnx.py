"""ONNX: the graph of a tiny network, built operation by operation, for any batch and size.

By hand rather than by torch's exporter, which needs more packages and spends other operations. A decoder uses Add,
Constant, Conv, Div, Mul, Relu, Resize and Tanh, and nothing else; one with a mid-block norm (FLUX.2) also Reshape,
Shape and InstanceNormalization, one with folded patches (Qwen Image) also ConvTranspose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from taesd_ext.commands.export_graph import write_network
from taesd_ext.errors import TaesdError
from taesd_ext.models.tiny import CLAMP_MAGNITUDE

OPSET = 13
"""Supported by ONNX Runtime 1.7 and later, by TensorRT 8.5, by DirectML."""
IR_VERSION = 7


def onnx_bytes(network: nn.Sequential, part: str, channels: int, factor: int, notes: dict[str, str]) -> bytes:
    """The ONNX file of an encoder ("image" -> "latent") or decoder ("latent" -> "image"), in the weights' dtype.

    Sizes are free; an image's sides are multiples of ``factor``. Raises TaesdError without the package onnx.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise TaesdError(
            "Cannot write ONNX", "the package onnx is missing", "pip install 'taesd-ext[onnx]', or onnx"
        ) from error
    dtype = next(network.parameters()).dtype
    kinds = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}
    if dtype not in kinds:
        raise TaesdError(f"Cannot write ONNX in {dtype}", "few runtimes compute in it", "Use --dtype fp32 or fp16")
    source, result = ("image", "latent") if part == "encoder" else ("latent", "image")
    writer = _OnnxWriter(onnx, dtype)
    write_network(network, writer, source)
    writer.nodes[-1].output[0] = result

    sizes = {"image": ["batch", 3, "height", "width"], "latent": ["batch", channels, "latent_height", "latent_width"]}
    graph = helper.make_graph(
        writer.nodes,
        f"tiny {part}",
        [helper.make_tensor_value_info(source, kinds[dtype], sizes[source])],
        [helper.make_tensor_value_info(result, kinds[dtype], sizes[result])],
        writer.weights,
        doc_string=f"image in [0, 1] with sides that are multiples of {factor}; latent in the diffusion model's scale",
    )
    model = helper.make_model(graph, producer_name="taesd_ext", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class _OnnxWriter:
    """Collects nodes and weights; a handle is the name of a tensor."""

    def __init__(self, onnx: Any, dtype: torch.dtype) -> None:
        self._helper, self._numpy = onnx.helper, onnx.numpy_helper
        self._dtype = dtype
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def conv(self, x: str, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> str:
        values = [self._weight(value) for value in (weight, bias) if value is not None]
        return self._node(
            "Conv", x, *values,
            kernel_shape=list(weight.shape[2:]), strides=[stride, stride], pads=[padding] * 4,
        )  # fmt: skip

    def conv_transpose(self, x: str, weight: Tensor, stride: int) -> str:
        return self._node(
            "ConvTranspose", x, self._weight(weight), kernel_shape=list(weight.shape[2:]), strides=[stride, stride]
        )

    def relu(self, x: str) -> str:
        return self._node("Relu", x)

    def add(self, x: str, y: str) -> str:
        return self._node("Add", x, y)

    def double(self, x: str) -> str:
        scales = self._constant(np.array([1, 1, 2, 2], dtype=np.float32))
        return self._node(
            "Resize", x, "", scales,
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def clamp(self, x: str) -> str:
        magnitude = self._constant(torch.tensor(CLAMP_MAGNITUDE, dtype=self._dtype).numpy())
        return self._node("Mul", self._node("Tanh", self._node("Div", x, magnitude)), magnitude)

    def group_norm(self, x: str, norm: nn.GroupNorm) -> str:
        # GroupNormalization came with opset 18, and right only with 21: groups as the channels of an instance norm.
        groups = norm.num_groups
        split = self._node("Reshape", x, self._constant(np.array([0, groups, -1], dtype=np.int64)))
        ones, zeros = torch.ones(groups, dtype=self._dtype), torch.zeros(groups, dtype=self._dtype)
        split = self._node(
            "InstanceNormalization", split, self._weight(ones), self._weight(zeros), epsilon=norm.eps
        )
        whole = self._node("Reshape", split, self._node("Shape", x))
        scaled = self._node("Mul", whole, self._weight(norm.weight.reshape(1, -1, 1, 1)))
        return self._node("Add", scaled, self._weight(norm.bias.reshape(1, -1, 1, 1)))

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, value: np.ndarray) -> str:
        return self._node("Constant", value=self._numpy.from_array(value))

    def _weight(self, value: Tensor) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(self._numpy.from_array(value.detach().to(self._dtype).contiguous().numpy(), name))
        return name
