"""Pictures and latents as requests and answers carry them: base64 text, within a limit of pixels."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from pathlib import Path

import torch
from fastapi import HTTPException
from PIL import Image

from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.latent_note import LatentNote
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES

MOST_PIXELS = 4096 * 4096
"""Of a picture that is taken or made; more is refused (413)."""


def bytes_of(text: str) -> bytes:
    """Base64, with or without "data:image/png;base64," before it; HTTPException 422 for anything else."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"not base64: {error}") from error


def text_of(data: bytes) -> str:
    """Plain base64."""
    return base64.b64encode(data).decode("ascii")


def image_of(data: bytes) -> torch.Tensor:
    """A picture file -> (1,3,H,W) in [0,1]; HTTPException 413 where it is too large, 422 where it is none."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise HTTPException(413, f"{picture.width}x{picture.height} is more than {MOST_PIXELS:,} pixels")
            return picture_to_image(picture)
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(422, f"not a readable picture: {one_line(error)}") from error


def latent_of(data: bytes, family: str | None) -> tuple[torch.Tensor, LatentNote]:
    """A latent's .png or .safetensors file -> (1,C,h,w) and its note; HTTPException 422 where it is none."""
    suffix = ".png" if data[:4] == b"\x89PNG" else ".safetensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"latent{suffix}"
        path.write_bytes(data)
        try:
            return read_latent(path, family if family in FAMILIES else None)
        except TaesdError as error:
            raise HTTPException(422, str(error).replace(str(path), "The latent")) from error
