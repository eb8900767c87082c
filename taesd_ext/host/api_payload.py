"""Pictures and latents as requests and answers carry them: base64 text, within a limit of pixels."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from PIL import Image

from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.latent_formats import FAMILIES

MOST_PIXELS = 4096 * 4096


def bytes_of(text: str) -> bytes:
    """Base64, with or without "data:image/png;base64," before it."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"not base64: {error}") from error


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def image_of(data: bytes) -> torch.Tensor:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise HTTPException(413, f"{picture.width}x{picture.height} is more than {MOST_PIXELS:,} pixels")
            return picture_to_image(picture)
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(422, f"not a readable picture: {one_line(error)}") from error


def latent_of(data: bytes, family: str | None) -> tuple[torch.Tensor, Any]:
    suffix = ".png" if data[:4] == b"\x89PNG" else ".safetensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"latent{suffix}"
        path.write_bytes(data)
        try:
            return read_latent(path, family if family in FAMILIES else None)
        except TaesdError as error:
            raise HTTPException(422, str(error).replace(str(path), "The latent")) from error
