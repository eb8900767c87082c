"""The comparison to look at: the table of what each codec costs and loses, a self-contained HTML page, a PNG sheet."""

import html
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from taesd_ext.codec.latent_image import latent_view
from taesd_ext.codec.picture_file import image_to_picture, picture_uri
from taesd_ext.commands.measuring import megabytes
from taesd_ext.commands.round_trip import RoundTrip
from taesd_ext.latent_formats import BY_NAME

Made = Sequence[tuple[str, Tensor, list[RoundTrip]]]
"""(name, (1,3,H,W) original, its rows) for each picture."""

DIFFERENCE_GAIN = 4
"""Difference maps are this much brighter than the difference itself: a quarter of full scale is white."""

_PAGE = Path(__file__).resolve().parents[1] / "data" / "compare.html"

_CELL = 320
_GAP = 12
_LABEL = 40
_MOST_ON_SHEET = 20
_INK, _PAPER, _FAINT = (232, 232, 236), (24, 24, 28), (150, 150, 158)

COLUMNS: tuple[tuple[str, str, Callable[[RoundTrip], str]], ...] = (
    ("Codec", "", lambda row: row.codec),
    ("PSNR", "dB against the original; higher is closer", lambda row: _number(row.psnr, "dB", 2)),
    ("SSIM", "structural similarity to the original; 1 is equal", lambda row: _number(row.ssim, "", 4)),
    ("Encode", "picture to latent", lambda row: _number(1000 * row.encode_seconds, "ms", 0)),
    ("Decode", "latent to picture", lambda row: _number(1000 * row.decode_seconds, "ms", 0)),
    ("Memory", "beyond the weights", lambda row: megabytes(row.peak_bytes)),
    ("Latent", "channels, height, width", lambda row: "×".join(map(str, row.latent.shape[1:]))),
    ("Latent PNG", "size of the 8-bit file", lambda row: _number(row.latent_png_bytes / 1000, "kB", 1)),
    ("Compression", "raw picture over latent PNG", lambda row: _number(row.compression, "×", 0)),
    ("PSNR via PNG", "8-bit against exact; 40 dB cannot be seen", lambda row: _number(row.psnr_8bit, "dB", 1)),
)


def difference_map(a: Tensor, b: Tensor) -> Tensor:
    """(1,3,H,W) images -> their absolute difference, brightened, as an image in [0,1]."""
    return ((a - b).abs() * DIFFERENCE_GAIN).clamp(0, 1)


def comparison_sheet(made: Made) -> bytes:
    """A PNG: for each picture a line of what came back, and a line of difference maps below it."""
    lines: list[list[Image.Image]] = []
    for name, image, rows in made[:_MOST_ON_SHEET]:
        back = [sheet_cell(image, "original", _short(name))]
        difference = [sheet_cell(None, f"difference to the original, {DIFFERENCE_GAIN}x")]
        for row in (row for row in rows if row.image is not None):
            costs = f"decode {_number(1000 * row.decode_seconds, 'ms', 0)}   {megabytes(row.peak_bytes)}"
            latent = f"latent {'x'.join(map(str, row.latent.shape[1:]))}   PNG {row.latent_png_bytes / 1000:.0f} kB"
            marks = f"{_number(row.psnr, 'dB', 2)}   SSIM {_number(row.ssim, '', 3)}"
            back.append(sheet_cell(row.image, row.codec, marks))
            difference.append(sheet_cell(difference_map(row.image, image), costs, latent))
        lines += [back, difference]
    if len(made) > _MOST_ON_SHEET:
        lines.append([sheet_cell(None, f"and {len(made) - _MOST_ON_SHEET} more pictures")])
    buffer = io.BytesIO()
    sheet_of(lines).save(buffer, "PNG")
    return buffer.getvalue()


def sheet_of(lines: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Cells line by line, those of a line beside each other."""
    heights = [max(cell.height for cell in line) + _GAP for line in lines]
    sheet = Image.new("RGB", (_GAP + max(map(len, lines)) * (_CELL + _GAP), _GAP + sum(heights)), _PAPER)
    top = _GAP
    for line, height in zip(lines, heights, strict=True):
        for column, cell in enumerate(line):
            sheet.paste(cell, (_GAP + column * (_CELL + _GAP), top))
        top += height
    return sheet


def sheet_cell(image: Tensor | None, title: str, words: str = "") -> Image.Image:
    """A picture, made as wide or as high as a cell is, below two lines of text."""
    picture = image_to_picture(image) if image is not None else Image.new("RGB", (_CELL, 1), _PAPER)
    resampling = Image.Resampling.LANCZOS if max(picture.size) > _CELL else Image.Resampling.NEAREST
    picture = ImageOps.contain(picture, (_CELL, _CELL), resampling)
    cell = Image.new("RGB", (_CELL, _LABEL + picture.height), _PAPER)
    draw = ImageDraw.Draw(cell)
    draw.text((0, 0), title, _INK, default_font(15))
    draw.text((0, 19), words, _FAINT, default_font(13))
    cell.paste(picture, (0, _LABEL))
    return cell


def default_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own, of this size where it has sizes."""
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def comparison_page(made: Made) -> str:
    """One HTML page that needs no other file and no network."""
    sections = "\n".join(_section(name, image, rows) for name, image, rows in made)
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(gain=DIFFERENCE_GAIN, sections=sections)


def _section(name: str, image: Tensor, rows: list[RoundTrip]) -> str:
    good = [row for row in rows if row.image is not None]
    head = "".join(f'<th scope="col" title="{html.escape(what)}">{html.escape(title)}' for title, what, _ in COLUMNS)
    lines = "\n".join(f"<tr>{''.join(f'<td>{html.escape(show(row))}' for *_, show in COLUMNS)}" for row in good)
    errors = "".join(
        f'<p class="error">{html.escape(row.codec)}: {html.escape(row.error)}</p>' for row in rows if row.error
    )
    original = picture_uri(image_to_picture(image))
    figures = "\n".join(_figure(row, image) for row in good)
    return f"""<section style="--original: url({original})">
<h2>{html.escape(name)} <small>{image.shape[-1]}×{image.shape[-2]}</small></h2>
<div class="table"><table><thead><tr>{head}</thead><tbody>
{lines}
</tbody></table></div>
{errors}
<div class="figures">
<figure><img src="{original}" alt="original"><figcaption>original</figcaption></figure>
{figures}
</div>
</section>"""


def _figure(row: RoundTrip, image: Tensor) -> str:
    codec = html.escape(row.codec)
    difference = picture_uri(image_to_picture(difference_map(row.image, image)), "jpeg")
    view = picture_uri(latent_view(row.latent, BY_NAME[row.format]))
    return f"""<figure>
<div class="swap" tabindex="0"><img src="{picture_uri(image_to_picture(row.image))}" alt="{codec}"></div>
<figcaption>{codec} <small>{_number(row.psnr, "dB", 2)}</small></figcaption>
<img src="{difference}" alt="{codec}: difference to the original">
<details><summary>latent</summary>
<img class="latent" src="{view}" alt="{codec}: latent, each channel in grey"></details>
</figure>"""


def _number(value: float, unit: str, digits: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "equal"
    return f"{value:.{digits}f} {unit}".rstrip()


def _short(name: str, longest: int = 40) -> str:
    if isinstance(default_font(13), ImageFont.ImageFont):  # it has the letters of Latin-1 alone
        name = name.encode("latin-1", "replace").decode("latin-1")
    return name if len(name) <= longest else f"...{name[3 - longest :]}"
