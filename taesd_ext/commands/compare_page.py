"""The comparison to look at: the table of what each codec costs and loses, and a self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor

from taesd_ext.codec.latent_view import latent_view
from taesd_ext.codec.picture_file import image_to_picture
from taesd_ext.commands.measuring import megabytes
from taesd_ext.commands.round_trip import RoundTrip
from taesd_ext.latent_formats import BY_NAME

Made = Sequence[tuple[str, Tensor, list[RoundTrip]]]
"""(name, (1,3,H,W) original, its rows) for each picture."""

DIFFERENCE_GAIN = 4
"""Difference maps are this much brighter than the difference itself: a quarter of full scale is white."""

COLUMNS: tuple[tuple[str, str, Callable[[RoundTrip], str]], ...] = (
    ("Codec", "", lambda row: row.codec),
    ("PSNR", "dB against the original; higher is closer", lambda row: _number(row.psnr, "dB", 2)),
    ("SSIM", "structural similarity to the original; 1 is equal", lambda row: _number(row.ssim, "", 4)),
    ("Encode", "picture to latent", lambda row: _number(1000 * row.encode_seconds, "ms", 0)),
    ("Decode", "latent to picture", lambda row: _number(1000 * row.decode_seconds, "ms", 0)),
    ("Memory", "beyond the weights", lambda row: megabytes(row.peak_bytes)),
    ("Latent", "channels, height, width", lambda row: "×".join(map(str, row.latent.shape[1:]))),
    ("Latent PNG", "size of the 8-bit file", lambda row: _number(row.latent_png_bytes / 1000, "kB", 1)),
    ("PSNR via PNG", "8-bit against exact; 40 dB cannot be seen", lambda row: _number(row.psnr_8bit, "dB", 1)),
)


def difference_map(a: Tensor, b: Tensor) -> Tensor:
    """(1,3,H,W) images -> their absolute difference, brightened, as an image in [0,1]."""
    return ((a - b).abs() * DIFFERENCE_GAIN).clamp(0, 1)


def comparison_page(made: Made) -> str:
    """One HTML page that needs no other file and no network."""
    sections = "\n".join(_section(name, image, rows) for name, image, rows in made)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Codecs compared</title>
<style>{_STYLE}</style>
<h1>Codecs compared</h1>
<p>Every picture went through every codec and back. Point at a picture, or focus it by Tab, to see the original in its
place. Difference maps are {DIFFERENCE_GAIN} times as bright as the difference.</p>
{sections}
</html>
"""


def _section(name: str, image: Tensor, rows: list[RoundTrip]) -> str:
    good = [row for row in rows if row.image is not None]
    head = "".join(f'<th scope="col" title="{html.escape(what)}">{html.escape(title)}' for title, what, _ in COLUMNS)
    lines = "\n".join(f"<tr>{''.join(f'<td>{html.escape(show(row))}' for *_, show in COLUMNS)}" for row in good)
    errors = "".join(
        f'<p class="error">{html.escape(row.codec)}: {html.escape(row.error)}</p>' for row in rows if row.error
    )
    original = _uri(image_to_picture(image))
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
    difference = _uri(image_to_picture(difference_map(row.image, image)), lossy=True)
    view = _uri(latent_view(row.latent, BY_NAME[row.format]))
    return f"""<figure>
<div class="swap" tabindex="0"><img src="{_uri(image_to_picture(row.image))}" alt="{codec}"></div>
<figcaption>{codec} <small>{_number(row.psnr, "dB", 2)}</small></figcaption>
<img src="{difference}" alt="{codec}: difference to the original">
<details><summary>latent</summary>
<img class="latent" src="{view}" alt="{codec}: latent, each channel in grey"></details>
</figure>"""


def _uri(picture: Image.Image, *, lossy: bool = False) -> str:
    buffer = io.BytesIO()
    if lossy:
        picture.save(buffer, "JPEG", quality=85)
    else:
        picture.save(buffer, "PNG")
    return f"data:image/{'jpeg' if lossy else 'png'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _number(value: float, unit: str, digits: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "equal"
    return f"{value:.{digits}f} {unit}".rstrip()


_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 18%, Canvas); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; }
h2 { margin-top: 2.5rem; overflow-wrap: anywhere; }
small { font-weight: normal; opacity: .7; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); margin-top: 1rem; }
figure { margin: 0; }
figure img { display: block; height: auto; width: 100%; }
figcaption { padding: .2rem 0 .5rem; }
.swap { position: relative; }
.swap:hover::after, .swap:focus::after {
  background: var(--original) 0 0 / 100% 100%; content: ""; inset: 0; position: absolute;
}
.latent { image-rendering: pixelated; }
.error { color: #c33; }
"""
