"""Sample pictures, and files to download."""

import re
import tempfile
from collections import deque
from pathlib import Path

from PIL import Image, ImageOps

_SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
"""Drawn for this project."""

MOST_OFFERED = 32
"""Files that may be downloaded: a page asks again for the answers of as many tasks."""

_offered: deque[tempfile.TemporaryDirectory] = deque()


def sample_names() -> list[str]:
    return sorted(path.stem for path in _SAMPLES.glob("*.webp"))


def sample_picture(name: str) -> Image.Image:
    """The RGB sample of that name, 512 pixels square."""
    return Image.open(_SAMPLES / f"{name}.webp").convert("RGB")


def fitted(picture: Image.Image, longest: int) -> Image.Image:
    """The picture as RGB, turned as its camera says, with its longest side of so many pixels."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    scale = longest / max(picture.size)
    width, height = (max(8, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def offered_file(name: str, data: bytes) -> str:
    """Write the bytes where gradio may serve them and give the path. The name's odd characters become "_".

    The last of all pages stay until the program ends.
    """
    folder = tempfile.TemporaryDirectory(prefix="taesd_ext_")
    _offered.append(folder)
    while len(_offered) > MOST_OFFERED:
        _offered.popleft().cleanup()
    path = Path(folder.name) / (re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "file")
    path.write_bytes(data)
    return str(path)
