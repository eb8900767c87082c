"""Small pictures to encode, and what became of them."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from taesd_ext import cli


def draw(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def digests(folder: Path) -> dict[str, str]:
    """Name below the folder -> checksum, of every file, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def encode(inputs: Path, output: Path, models: Path, *more: str) -> int:
    return cli.main(["encode", str(inputs), "-o", str(output), "--models", str(models), *more])


def decode(inputs: Path, output: Path, models: Path, *more: str) -> int:
    return cli.main(["decode", str(inputs), "-o", str(output), "--models", str(models), *more])
