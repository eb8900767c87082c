"""ONNX: the graph of a tiny network, for any batch and size, by torch's TorchScript exporter.

That one needs no package but onnx, and spends few operations: a plain decoder is made of Add, Constant, Conv, Div, Mul,
Relu, Resize and Tanh, which every runtime knows.
"""

import inspect
import io
import warnings

import torch

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.models.tiny import TinyNetwork

OPSET = 13
"""Supported by ONNX Runtime 1.7 and later, by TensorRT 8.5, by DirectML."""


def onnx_bytes(network: TinyNetwork, notes: dict[str, str]) -> bytes:
    """The ONNX file of an encoder ("image" -> "latent") or decoder ("latent" -> "image"), in the weights' dtype.

    Sizes are free; an image's sides are multiples of the network's factor. Raises TaesdError without the package onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise TaesdError(
            "Cannot write ONNX", "the package onnx is missing", "pip install 'taesd-ext[onnx]', or onnx"
        ) from error
    dtype = next(network.parameters()).dtype
    if dtype not in (torch.float32, torch.float16):
        raise TaesdError(f"Cannot write ONNX in {dtype}", "few runtimes compute in it", "Use --dtype fp32 or fp16")
    factor = network.spatial_scale_factor
    names = ("image", "latent") if network.part == "encoder" else ("latent", "image")
    channels, step = (3, factor) if network.part == "encoder" else (network.latent_channels, 1)
    example = torch.zeros(1, channels, 2 * step, 3 * step, dtype=dtype)
    axes = {
        "image": {0: "batch", 2: "height", 3: "width"},
        "latent": {0: "batch", 2: "latent_height", 3: "latent_width"},
    }
    # The newest torch chooses its other exporter unless told; the older ones have no such choice.
    chosen = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (example,), file, input_names=names[:1], output_names=names[1:], dynamic_axes=axes,
                opset_version=OPSET, **chosen,
            )  # fmt: skip
    except RuntimeError as error:  # before torch 2.3 a CPU does not compute in float16
        cure = "Use --dtype fp32, or update torch"
        raise TaesdError(f"Cannot write ONNX in {dtype}", one_line(error), cure) from error
    model = onnx.load_from_string(file.getvalue())
    model.graph.doc_string = f"image in [0, 1], sides multiples of {factor}; latent in the diffusion model's scale"
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
