"""How good each cheap preview is: against the full decode of the same latent, area-averaged to the preview's size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import SCALES
from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, read_picture
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.commands.metrics import psnr, ssim
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import to_family_latent
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb

PHOTO_SIDE = 512


@dataclass(frozen=True)
class QualityRow:
    preview: str
    scale: int
    """Full-size pixels along a side of one pixel of the preview."""
    psnr: float
    worst_psnr: float
    ssim: float

    def __str__(self) -> str:
        return (
            f"{self.preview:<20} 1/{self.scale:<3} {self.psnr:6.2f} dB (worst {self.worst_psnr:.2f}), "
            f"SSIM {self.ssim:.3f}"
        )


def preview_quality(
    codec: Codec, latents: Iterable[Tensor], others: dict[str, tuple[Callable[[Tensor], Tensor], int]] | None = None
) -> list[QualityRow]:
    """A row for each reduced detail, the embedded previewer, the linear one, and ``others`` (name -> function, scale).

    Latents (1,C,h,w) as the sampler holds them; a function of ``others`` gets them in the family's scale and gives an
    image in [0,1]. Latents of real pictures tell most.
    """
    ways: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
        f"detail {detail}": (lambda latent, detail=detail: codec.decode(latent, detail=detail), SCALES[detail])
        for detail in codec.details
        if detail != "full"
    }
    previews: dict[str, tuple[Callable[[Tensor], Tensor], int]] = dict(others or {})
    if has_previewer(codec.format.name):
        previews["embedded previewer"] = (load_previewer(codec.format.name), codec.spatial_scale_factor // 2)
    if codec.format.rgb in LATENT_RGB:
        linear = codec.format.rgb
        previews["linear RGB"] = (lambda latent: latent_to_rgb(latent, linear), codec.spatial_scale_factor)
    for name, (preview, scale) in previews.items():
        ways[name] = (lambda latent, preview=preview: preview(to_family_latent(latent, codec.format)), scale)
    marks: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for latent in latents:
        full = codec.decode(latent)
        for name, (show, scale) in ways.items():
            shown, wanted = show(latent), functional.avg_pool2d(full, scale)
            marks[name].append((float(psnr(shown, wanted)), float(ssim(shown, wanted))))
    rows = []
    for name, found in marks.items():
        decibels, likeness = zip(*found, strict=True)
        mean = sum(decibels) / len(found)
        rows.append(QualityRow(name, ways[name][1], mean, min(decibels), sum(likeness) / len(found)))
    return rows


def latents_to_measure(codec: Codec, folder: Path) -> list[Tensor]:
    """What a folder holds for a codec: its stored latents (.safetensors), or else its pictures, encoded."""
    stored = [path for path in files_in(folder) if path.suffix.lower() == ".safetensors"]
    if not stored:
        return [codec.encode(photo) for photo in read_photos(folder)]
    latents = []
    for path in stored:
        latent, note = read_latent(path)
        if note.format == codec.format.name:
            latents.append(latent)
    if not latents:
        raise TaesdError(f"No latent in {folder} is of {codec.format.name}", f"{len(stored)} are of other formats")
    return latents


def read_photos(folder: Path, side: int = PHOTO_SIDE) -> list[Tensor]:
    """(1,3,H,W) images in [0,1]: the middle of each picture, at most ``side`` wide, cut to multiples of 32."""
    paths = [path for path in files_in(folder) if path.suffix.lower() in PICTURE_SUFFIXES]
    if not paths:
        raise TaesdError(f"There are no pictures in {folder}", "", f"Put {', '.join(PICTURE_SUFFIXES)} files there")
    return [_middle(read_picture(path), side) for path in paths]


def files_in(folder: Path) -> list[Path]:
    """What is not hidden there, by name. Raises TaesdError where there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise TaesdError(f"Cannot read the folder {folder}", error.strerror or "", "Check the path") from error


def _middle(image: Tensor, side: int) -> Tensor:
    edges: list[int] = []
    for length in (image.shape[-1], image.shape[-2]):
        more = max(32, min(side, length) // 32 * 32) - length  # below zero where the picture is cut
        edges += [-(-more // 2), more + (-more // 2)]
    return functional.pad(image, edges)
