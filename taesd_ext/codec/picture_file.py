"""Picture files <-> image tensors, and pictures as addresses that a page shows without a file on the server."""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from taesd_ext.errors import TaesdError, one_line

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_WRITTEN_AS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
WRITABLE_SUFFIXES = tuple(_WRITTEN_AS)

_MOST_PIXELS = 2**27
"""11585x11585. PIL itself refuses at 1.3 times as many, and warns before."""
_LOSSY_QUALITY = 95


def read_picture(path: Path | str) -> Tensor:
    """A picture file -> (1,3,H,W) float32 image in [0,1]: upright, its first frame, transparency laid on white.

    Raises TaesdError when it is no picture, is damaged, or claims an absurd size.
    """
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError(f"it claims {picture.width}x{picture.height} pixels")
            return picture_to_image(ImageOps.exif_transpose(picture))
    except Exception as error:
        why = str(error) if type(error) is ValueError else one_line(error)
        raise TaesdError(f"{path} is not a readable picture", why, "Take it out, or save it again as PNG") from error


def picture_to_image(picture: Image.Image) -> Tensor:
    """A PIL picture of any mode -> (1,3,H,W) float32 image in [0,1]."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        # PIL would cut 16-bit greys off at 255 instead of scaling them.
        grey = np.asarray(picture, dtype=np.float32)
        image = torch.from_numpy(grey / (65535 if picture.mode.startswith("I") else 1)).clamp(0, 1)
        return image.expand(1, 3, -1, -1).contiguous()
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(255)


def image_to_picture(image: Tensor) -> Image.Image:
    """(1,3,H,W) or (3,H,W) image in [0,1] -> an 8-bit RGB picture, rounded."""
    image = image[0] if image.ndim == 4 else image
    pixels = image.detach().float().clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def image_bytes(suffix: str, image: Tensor) -> bytes:
    """The content of a picture file; ``suffix`` is one of WRITABLE_SUFFIXES."""
    kind = _WRITTEN_AS.get(suffix)
    if kind is None:
        raise TaesdError(
            f"Cannot write pictures as {suffix or 'a file without suffix'}", "", f"Use {', '.join(WRITABLE_SUFFIXES)}"
        )
    buffer = io.BytesIO()
    image_to_picture(image).save(buffer, kind, **({} if kind == "PNG" else {"quality": _LOSSY_QUALITY}))
    return buffer.getvalue()


def picture_bytes(picture: Image.Image, kind: str = "png") -> bytes:
    """A picture for a page: "png" is exact, "jpeg" is small."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 92} if kind == "jpeg" else {"compress_level": 1}))
    return buffer.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """Encoded bytes for an ``<img src>``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def picture_uri(picture: Image.Image, kind: str = "png") -> str:
    return data_uri(picture_bytes(picture, kind), kind)
