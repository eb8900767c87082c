"""Blended tiles of a trained VAE: how far they are from the whole picture, and that no seam is seen."""

import lzma
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext import load_codec
from taesd_ext.codec.codec import Codec

pytestmark = pytest.mark.slow

SIDE = 320
TILE = 256
BORDER = 16
"""Pixels at the picture's edge, which this little VAE paints differently in every tile size."""


@pytest.fixture(scope="module")
def codec(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """The small VAE of a checkpoint that was fitted to one scene: its attention and norms are trained ones."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny_sd1.safetensors"
    with lzma.open(shared / "webui" / "tiny_sd1.safetensors.xz") as packed:
        path.write_bytes(packed.read())
    return load_codec(path, variant="sd15-vae")


@pytest.fixture(scope="module")
def latent(codec: Codec) -> Tensor:
    """Its scene, blue above and green below with a sun, as large as several tiles."""
    scene = torch.empty(1, 3, SIDE, SIDE)
    scene[:] = torch.tensor([80, 120, 230]).view(1, 3, 1, 1) / 255
    scene[:, :, SIDE * 88 // 128 :] = torch.tensor([60, 170, 40]).view(1, 3, 1, 1) / 255
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    sun = (rows - SIDE * 30 // 128) ** 2 + (columns - SIDE * 90 // 128) ** 2 < (SIDE * 15 // 128) ** 2
    scene[:, :, sun] = torch.tensor([250, 220, 60]).view(1, 3, 1) / 255
    return codec.encode(functional.avg_pool2d(scene, 5, 1, 2), tile="off")


@pytest.fixture(scope="module")
def whole(codec: Codec, latent: Tensor) -> Tensor:
    return codec.decode(latent, tile="off")


def steps(image: Tensor) -> Tensor:
    """The mean absolute step from each column to the next, in levels of an 8-bit picture."""
    return 255 * image.diff(dim=-1).abs().mean((0, 1, 2))[BORDER:-BORDER]


def test_no_seam_is_seen(codec: Codec, latent: Tensor, whole: Tensor, capsys: pytest.CaptureFixture) -> None:
    error = codec.decode(latent, tile=TILE) - whole
    seam = float(steps(error).max())
    drift = 255 * float(error.mean((0, 2, 3)).abs().max())
    psnr = -10 * float(torch.log10(error.pow(2).mean()))
    with capsys.disabled():
        print(f"\nseam {seam:.2f} of 255 at the most, drift {drift:.2f}, {psnr:.1f} dB from the whole")
    assert seam < 1


def test_a_plain_cut_would_be_seen(codec: Codec, latent: Tensor, whole: Tensor) -> None:
    """So that the measure above can fail: the same tiles without overlap."""
    positions = latent.shape[-1] // 2
    halves = [codec.decode(half, tile="off") for half in latent.split(positions, dim=-1)]
    assert float(steps(torch.cat(halves, dim=-1) - whole).max()) > 10
