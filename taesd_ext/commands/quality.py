"""How good each cheap preview is: against the full decode of the same latent, area-averaged to the preview's size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import SCALES
from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.latent_image import latent_to_png, png_to_latent
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, read_picture
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.commands.metrics import psnr, ssim
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import to_family_latent
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb

PHOTO_SIDE = 512

Way = tuple[Callable[[Tensor], Tensor], int]
"""A latent in the family's scale -> its image in [0,1], and the full-size pixels along a side of one pixel of that."""


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
            f"{self.preview:<21} 1/{self.scale:<3} {self.psnr:6.2f} dB (worst {self.worst_psnr:.2f}), "
            f"SSIM {self.ssim:.3f}"
        )


def preview_quality(codec: Codec, latents: Iterable[Tensor], others: dict[str, Way] | None = None) -> list[QualityRow]:
    """A row for each reduced detail, the embedded previewer, the linear one, and ``others``.

    Latents (1,C,h,w) as the sampler holds them. Those of real pictures tell most.
    """
    previews = dict(others or {})
    if has_previewer(codec.format.name):
        previews["embedded previewer"] = (load_previewer(codec.format.name), codec.spatial_scale_factor // 2)
    if codec.format.rgb in LATENT_RGB:
        previews["linear RGB"] = (partial(latent_to_rgb, row=codec.format.rgb), codec.spatial_scale_factor)
    details = [detail for detail in codec.details if detail != "full"]
    marks: dict[str, list[tuple[float, float]]] = {}
    scales: dict[str, int] = {}
    for latent in latents:
        full, own = codec.decode(latent), to_family_latent(latent, codec.format)
        shown = {f"detail {detail}": (codec.decode(latent, detail=detail), SCALES[detail]) for detail in details}
        shown |= {name: (preview(own), scale) for name, (preview, scale) in previews.items()}
        for name, (image, scale) in shown.items():
            wanted = functional.avg_pool2d(full, scale)
            scales[name] = scale
            marks.setdefault(name, []).append((float(psnr(image, wanted)), float(ssim(image, wanted))))
    rows = []
    for name, found in marks.items():
        decibels, likeness = zip(*found, strict=True)
        mean = sum(decibels) / len(found)
        rows.append(QualityRow(name, scales[name], mean, min(decibels), sum(likeness) / len(found)))
    return rows


def png_round_trip(codec: Codec) -> Way:
    """What a stay as an 8-bit PNG leaves of a latent: the whole picture, at full size."""

    def decode_from_png(latent: Tensor) -> Tensor:
        factor = codec.spatial_scale_factor
        size = (latent.shape[-2] * factor, latent.shape[-1] * factor)
        note = note_for(latent, codec.family, codec.format, size)
        return codec.decode(png_to_latent(latent_to_png(latent, note))[0])

    return decode_from_png, 1


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
