"""How good each cheap preview is: against the full decode of the same latent, area-averaged to the preview's size."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import embedded_networks
from taesd_ext.codec.heads import SCALES
from taesd_ext.codec.latent_file import read_latent
from taesd_ext.codec.latent_image import latent_to_png, png_to_latent
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.metrics import psnr, ssim
from taesd_ext.codec.picture_file import PICTURE_SUFFIXES, image_to_picture, picture_to_image, read_picture
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.commands import approx_nn
from taesd_ext.commands.measuring import table
from taesd_ext.commands.progress import progress
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import to_family_latent
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb
from taesd_ext.weights.folders import search_folders

PHOTO_SIDE = 512

Way = tuple[Callable[[Tensor], Tensor], int]
"""A latent in the family's scale -> its image in [0,1], and the full-size pixels along a side of one pixel of that."""


@dataclass(frozen=True)
class QualityRow:
    preview: str
    scale: int
    """Full-size pixels along a side of one pixel of the preview."""
    psnr: float
    """dB, the mean over the pictures."""
    worst_psnr: float
    ssim: float


def measure_quality(codec: Codec, folder: Path, models: Iterable[Path | str]) -> list[QualityRow]:
    """Every cheap preview of what a folder holds, printed as a table. ``models``: where Approx NN is looked for too."""
    latents = latents_to_measure(codec, folder)
    others = {"8-bit PNG round trip": _png_round_trip(codec)}
    if network := approx_nn.find_approx_nn(codec.format.name, search_folders(models)):
        others["Approx NN"] = network, approx_nn.SCALE
    rows = preview_quality(codec, progress(latents, len(latents), codec.family, "picture"), others)
    _print(f"{codec.family}, {len(latents)} pictures", rows)
    if not _stored_latents(folder) and (encoders := encoder_quality(codec, latents, read_photos(folder))):
        _print("against the pictures themselves", encoders)
    return rows


def _print(title: str, rows: Iterable[QualityRow]) -> None:
    columns = {
        title: "{preview}", "size": "1/{scale}", "PSNR": "{psnr:.2f} dB", "worst": "{worst_psnr:.2f} dB",
        "SSIM": "{ssim:.3f}",
    }  # fmt: skip
    print(f"\n{table(map(vars, rows), columns)}", flush=True)


def preview_quality(codec: Codec, latents: Iterable[Tensor], others: dict[str, Way] | None = None) -> list[QualityRow]:
    """A row for each cheap preview, ``others`` too, of (1,C,h,w) latents as the sampler holds them."""
    own_format = codec.format
    previews = dict(others or {})
    if has_previewer(own_format.name):
        previews["embedded previewer"] = load_previewer(own_format.name), codec.spatial_scale_factor // 2
    if small := embedded_networks(own_format):
        previews["embedded decoder"] = small["decoder"], 1
        previews["previewer, enlarged"] = partial(_enlarged, load_previewer(own_format.name)), 1
    if own_format.rgb in LATENT_RGB:
        previews["linear RGB"] = partial(latent_to_rgb, row=own_format.rgb), codec.spatial_scale_factor
    details = [detail for detail in codec.details if detail != "full"]
    marks: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for latent in latents:
        full, own = codec.decode(latent), to_family_latent(latent, own_format)
        shown = {(f"detail {detail}", SCALES[detail]): codec.decode(latent, detail=detail) for detail in details}
        shown |= {(name, scale): preview(own) for name, (preview, scale) in previews.items()}
        for key, image in shown.items():
            image, wanted = image.clamp(0, 1), functional.avg_pool2d(full, key[1])
            marks.setdefault(key, []).append((float(psnr(image, wanted)), float(ssim(image, wanted))))
    return [_row(key, found) for key, found in marks.items()]


def encoder_quality(codec: Codec, latents: Iterable[Tensor], photos: Iterable[Tensor]) -> list[QualityRow]:
    """(1,3,H,W) pictures against their decodes, from the codec's own ``latents`` and the embedded encoder's, if any."""
    small = embedded_networks(codec.format)
    if not small:
        return []
    marks: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for own, photo in zip(latents, photos, strict=True):
        for name, latent in ((f"{codec.family} encoder", own), ("embedded encoder", small["encoder"](photo))):
            image = codec.decode(latent)
            marks.setdefault((name, 1), []).append((float(psnr(image, photo)), float(ssim(image, photo))))
    return [_row(key, found) for key, found in marks.items()]


def _row(key: tuple[str, int], marks: list[tuple[float, float]]) -> QualityRow:
    decibels, likeness = zip(*marks, strict=True)
    return QualityRow(*key, statistics.fmean(decibels), min(decibels), statistics.fmean(likeness))


def _enlarged(preview: Callable[[Tensor], Tensor], latent: Tensor) -> Tensor:
    """The preview at full size, by Lanczos."""
    small = image_to_picture(preview(latent))
    return picture_to_image(small.resize((4 * small.width, 4 * small.height), Image.Resampling.LANCZOS))


def _png_round_trip(codec: Codec) -> Way:
    """What a stay as an 8-bit PNG leaves of a latent: the whole picture, at full size."""

    def decode_from_png(latent: Tensor) -> Tensor:
        factor = codec.spatial_scale_factor
        size = (latent.shape[-2] * factor, latent.shape[-1] * factor)
        note = note_for(latent, codec.family, codec.format, size)
        return codec.decode(png_to_latent(latent_to_png(latent, note))[0])

    return decode_from_png, 1


def latents_to_measure(codec: Codec, folder: Path) -> list[Tensor]:
    """What a folder holds for a codec: its stored latents (.safetensors), or else its pictures, encoded."""
    stored = _stored_latents(folder)
    if not stored:
        photos = read_photos(folder)
        return [codec.encode(photo) for photo in progress(photos, len(photos), "encode", "picture")]
    read = map(read_latent, stored)
    latents = [latent for latent, note in read if note.format == codec.format.name]
    if not latents:
        raise TaesdError(f"No latent in {folder} is of {codec.format.name}", f"{len(stored)} are of other formats")
    return latents


def _stored_latents(folder: Path) -> list[Path]:
    return [path for path in files_in(folder) if path.suffix.lower() == ".safetensors"]


def read_photos(folder: Path) -> list[Tensor]:
    """(1,3,H,W) images in [0,1]: the middle of each picture, at most PHOTO_SIDE wide, cut to multiples of 32."""
    paths = [path for path in files_in(folder) if path.suffix.lower() in PICTURE_SUFFIXES]
    if not paths:
        raise TaesdError(f"There are no pictures in {folder}", "", f"Put {', '.join(PICTURE_SUFFIXES)} files there")
    return [_middle(read_picture(path)) for path in paths]


def files_in(folder: Path) -> list[Path]:
    """What is not hidden there, by name. Raises TaesdError where there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise TaesdError(f"Cannot read the folder {folder}", error.strerror or "", "Check the path") from error


def _middle(image: Tensor) -> Tensor:
    edges: list[int] = []
    for length in (image.shape[-1], image.shape[-2]):
        more = max(32, min(PHOTO_SIDE, length) // 32 * 32) - length  # below zero where the picture is cut
        edges += [-(-more // 2), more + (-more // 2)]
    return functional.pad(image, edges)
