"""Honest files of every format, from which the mutated ones are made."""

import io
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

FORMATS = ("pth", "safetensors", "png", "h5")


def small_state(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"1.weight": (8, 4, 3, 3), "1.bias": (8,), "3.conv.0.weight": (8, 8, 3, 3), "scale": (), "none": (0, 4)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def tiny_state() -> dict[str, Tensor]:
    """A whole 4-channel encoder in half precision, so that mutated files also reach the networks."""
    from taesd_ext.models import tiny

    generator = torch.Generator().manual_seed(1)
    return {
        name: (torch.randn(value.shape, generator=generator) * 0.02).half()
        for name, value in tiny.Encoder(4).state_dict().items()
    }


def pth(state: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def seeds(kind: str) -> list[bytes]:
    """Small ones first; the last is the largest."""
    if kind == "pth":
        small = small_state()
        shared = {"whole": torch.arange(64.0), "part": torch.arange(64.0)[8:40].view(4, 8).t()}
        return [
            pth(small),
            pth({"state_dict": small_state(torch.bfloat16), "epoch": 7, "names": ["a", "b"]}),
            pth({name: nn.Parameter(value) for name, value in small.items()}),
            pth(shared),
            pth(small, zipped=False),
            pth(shared, zipped=False),
            pth(tiny_state()),
        ]
    if kind == "safetensors":
        return [
            save(small_state()),
            save(small_state(torch.float16), {"format": "pt", "note": "x"}),
            save({"latent": torch.zeros(1, 4, 2, 2)}),
            save(tiny_state()),
        ]
    if kind == "png":
        return _png_seeds()
    return _h5_seeds()


def _png_seeds() -> list[bytes]:
    from taesd_ext.codec.latent_image import latent_to_png
    from taesd_ext.codec.latent_note import note_for
    from taesd_ext.latent_formats import native_format

    found = []
    for family, channels in (("taesd", 4), ("taesd3", 16), ("taef2", 32)):
        row = native_format(family)
        latent = torch.randn(1, channels, 5, 7, generator=torch.Generator().manual_seed(2)) * 2
        found.append(latent_to_png(latent, note_for(latent, family, row, (40, 56))))
    return found


def _h5_seeds() -> list[bytes]:
    """Layers listed in order with kernels (height, width, in, out), as Keras 2 writes them: small ones, a whole one.

    Newer h5py writes lists of texts of variable length, older of one length; ``libver`` is the version of the layout.
    """
    small, whole = small_state(), tiny_state()
    forms = ((small, False, "earliest"), (small, True, "earliest"), (small, True, "latest"), (whole, True, "earliest"))
    return [_h5(state, variable, libver) for state, variable, libver in forms]


def _h5(state: dict[str, Tensor], variable: bool, libver: str) -> bytes:
    import h5py
    import numpy

    def texts(names: list[str]) -> object:
        return numpy.array(names, h5py.string_dtype() if variable else "S")

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as file:
        names = []
        for index, name in enumerate(key for key in state if key.endswith(".weight")):
            layer = f"conv2d_{index}"
            names.append(layer)
            group = file.create_group(layer)
            weights = [f"{layer}/kernel:0"]
            group.create_dataset(weights[0], data=state[name].float().permute(2, 3, 1, 0).numpy())
            bias = state.get(name.replace(".weight", ".bias"))
            if bias is not None:
                weights.append(f"{layer}/bias:0")
                group.create_dataset(weights[1], data=bias.float().numpy())
            group.attrs["weight_names"] = texts(weights)
        file.attrs["layer_names"] = texts(names)
    return buffer.getvalue()


def file_name(folder: Path, kind: str) -> Path:
    """A name that a family is looked for under."""
    return folder / f"taesd_encoder.{kind}"
