"""Latents in files: ``.png`` in 8 bits, ``.safetensors`` exactly. Either says which codec decodes it."""

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from taesd_ext.codec.latent_image import latent_to_png, png_to_latent
from taesd_ext.codec.latent_note import LatentNote, read_note
from taesd_ext.errors import TaesdError
from taesd_ext.weights.tensor_file import open_tensor_file

LATENT_SUFFIXES = (".png", ".safetensors")

_TENSOR = "latent"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def latent_bytes(suffix: str, latent: Tensor, note: LatentNote) -> bytes:
    """The content of a latent file; ``suffix`` is one of LATENT_SUFFIXES."""
    if suffix == ".png":
        return latent_to_png(latent, note)
    if suffix == ".safetensors":
        metadata = {name: str(value) for name, value in asdict(note).items()}
        return save({_TENSOR: latent.detach().cpu().contiguous()}, metadata)
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
    cure = "Use a file that `python -m taesd_ext encode` wrote"
    try:
        file = open_tensor_file(path)
        if _TENSOR not in file.shapes:
            raise ValueError(f"it has no tensor {_TENSOR!r}")
        note = read_note(file.metadata)
        if file.shapes[_TENSOR] != note.latent_shape:
            raise ValueError(f"its latent is {file.shapes[_TENSOR]} where its note says {note.latent_shape}")
        latent = file.load([_TENSOR])[_TENSOR]
        if latent.dtype not in _DTYPES:
            raise ValueError(f"its latent is of type {latent.dtype}")
    except (TaesdError, ValueError) as error:
        why = error.why if isinstance(error, TaesdError) else str(error)
        raise TaesdError(f"{path} is not a stored latent", why, cure) from error
    if not torch.isfinite(latent).all():
        raise TaesdError(f"{path} cannot be decoded", "its latent holds infinite or undefined numbers", cure)
    return latent.float(), note
