"""The embedded previewers: a picture at a quarter of the size from the latent alone, without any decoder file."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from taesd_ext.codec.precision import DtypeChoice, resolve_dtype
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import BY_NAME, LATENT_FORMATS
from taesd_ext.models.computing import computing
from taesd_ext.models.fast_layers import layout_on
from taesd_ext.models.student import Previewer
from taesd_ext.weights.tensor_file import open_tensor_file
from taesd_ext.weights.tiny_file import build_frozen

DATA = Path(__file__).resolve().parents[1] / "data"
"""The shipped files, made by `python -m taesd_ext learn`."""

PREVIEWER_FORMATS = tuple(row.name for row in LATENT_FORMATS if row.previewer)

_loaded: dict[tuple[str, str, torch.dtype], Callable[[Tensor], Tensor]] = {}
_lock = threading.Lock()


def load_previewer(
    format_name: str, *, device: str | torch.device = "cpu", dtype: DtypeChoice = None
) -> Callable[[Tensor], Tensor]:
    """The previewer of a latent format (Playground 2.5 shares SDXL's), kept for the next call.

    It takes a latent (B,C,h,w) in the family's scale (:func:`taesd_ext.latent_formats.to_family_latent`) and gives a
    float32 image (B,3,2h,2w) in [0,1] on the latent's device. Raises TaesdError for a format without one.
    """
    row = BY_NAME.get(format_name)
    name = row.rgb if row else format_name
    if name not in PREVIEWER_FORMATS:
        raise TaesdError(
            f"There is no embedded previewer for {format_name}",
            f"it exists for {', '.join(PREVIEWER_FORMATS)}",
            "Use the linear preview, or the decoder's file",
        )
    dtype = resolve_dtype(dtype, device)
    key = (name, str(device), dtype)
    with _lock:
        if key not in _loaded:
            layout = layout_on(torch.device(device))
            _loaded[key] = _preview_with(read_previewer(name).to(device, dtype, memory_format=layout))
        return _loaded[key]


def has_previewer(format_name: str) -> bool:
    """Whether :func:`load_previewer` knows this latent format."""
    row = BY_NAME.get(format_name)
    return row is not None and row.rgb in PREVIEWER_FORMATS and _file(row.rgb).is_file()


def read_previewer(name: str) -> Previewer:
    """The shipped network of a latent format, float32 on the CPU."""
    state = read_shipped(_file(name))
    with torch.device("meta"):
        network = Previewer(BY_NAME[name].latent_channels, overview="overview.mix.weight" in state)
    return build_frozen(network, state)


def read_shipped(path: Path) -> dict[str, Tensor]:
    """A shipped network's weights in float32."""
    file = open_tensor_file(path)
    return {key: value.float() for key, value in file.load(list(file.shapes)).items()}


def save_shipped(state: Mapping[str, Tensor], path: Path, kind: str, format_name: str) -> None:
    """Write a network's weights as float16, which costs less than 0.01 dB."""
    tensors = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    # Not by save_file, whose newer releases keep the file from everybody else's eyes.
    path.write_bytes(save(tensors, metadata={"kind": kind, "format": format_name}))


def _file(name: str) -> Path:
    return DATA / f"previewer_{name}.safetensors"


def _preview_with(network: Previewer) -> Callable[[Tensor], Tensor]:
    weight = network.linear.weight

    @computing(weight.device)
    def preview(latent: Tensor) -> Tensor:
        x = latent.to(weight.device, weight.dtype)
        x = x.contiguous(memory_format=layout_on(x.device))
        return network(x).clamp(0, 1).to(latent.device, torch.float32).contiguous()

    return preview
