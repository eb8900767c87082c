"""Latents in files: ``.png`` in 8 bits, ``.safetensors`` exactly. Either says which codec decodes it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from taesd_ext.codec.latent_image import latent_to_png, png_to_latent
from taesd_ext.codec.latent_note import LatentNote, read_note
from taesd_ext.errors import TaesdError, one_line

LATENT_SUFFIXES = (".png", ".safetensors")

_TENSOR = "latent"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def latent_bytes(suffix: str, latent: Tensor, note: LatentNote) -> bytes:
    """The content of a latent file; ``suffix`` is one of LATENT_SUFFIXES."""
    if suffix == ".png":
        return latent_to_png(latent, note)
    if suffix == ".safetensors":
        metadata = {name: str(value) for name, value in asdict(note).items()}
        return safetensors.torch.save({_TENSOR: latent.detach().cpu().contiguous()}, metadata)
    raise TaesdError(f"Cannot write latents as {suffix or 'a file without suffix'}", "", _USE)


def read_latent(path: Path | str, family: str | None = None) -> tuple[Tensor, LatentNote]:
    """The (1,C,h,w) latent in a file and its note. The file's own word counts; ``family`` serves where it has none.

    Raises TaesdError for a file that is foreign, edited, damaged, or too large to be true.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if path.suffix.lower() == ".png":
        return png_to_latent(path, family)
    raise TaesdError(f"{path} is not a stored latent", f"its suffix is {path.suffix or 'missing'}", _USE)


_USE = f"Use {' or '.join(LATENT_SUFFIXES)}"


def _read_safetensors(path: Path) -> tuple[Tensor, LatentNote]:
    try:
        with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            if _TENSOR not in file.keys():  # noqa: SIM118 - safe_open is no mapping
                raise ValueError(f"it has no tensor {_TENSOR!r}")
            note = read_note(dict(metadata))
            view = file.get_slice(_TENSOR)
            shape, dtype = tuple(view.get_shape()), view.get_dtype()
            if shape != note.latent_shape:
                raise ValueError(f"its latent is {shape} where its note says {note.latent_shape}")
            if dtype not in _DTYPES:
                raise ValueError(f"its latent is of type {dtype}")
            latent = file.get_tensor(_TENSOR).float()
    except ValueError as error:
        raise TaesdError(f"{path} is not a stored latent", str(error), _CURE) from error
    except Exception as error:
        raise TaesdError(f"{path} is not a stored latent", one_line(error), _CURE) from error
    if not torch.isfinite(latent).all():
        raise TaesdError(f"{path} cannot be decoded", "its latent holds infinite or undefined numbers", _CURE)
    return latent, note


_CURE = "Use a file that `python -m taesd_ext encode` wrote"
