"""Make the README's picture of the ways to draw a preview: one latent, each way, and what each takes here.

    .venv/bin/python docs/make_ways.py [PICTURE] [--models models/VAE-taesd] [--approx-nn models/VAE-approx]

PICTURE is any picture (a drawn one is used without it). Needs the weights of taesd, encoder and decoder, which are
looked for as by every command: `.venv/bin/python -m taesd_ext weights download taesd` gets them. The README's own
picture is replaced with `-o docs/ways.webp --overwrite`.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package beside this folder, installed or not

from taesd_ext import TaesdError, load_codec
from taesd_ext.codec.picture_file import image_to_picture, picture_to_image, read_picture
from taesd_ext.codec.previewer import load_previewer
from taesd_ext.commands.approx_nn import find_approx_nn
from taesd_ext.commands.compare_page import sheet_cell, sheet_of
from taesd_ext.commands.measuring import in_turn, timed
from taesd_ext.commands.outputs import add_overwrite_argument, check_outputs
from taesd_ext.models.computing import computing
from taesd_ext.models.latent_rgb import latent_to_rgb
from taesd_ext.ui.pictures import fitted, sample_picture

DOWNLOAD = "`.venv/bin/python -m taesd_ext weights download taesd` gets the files"
SIDE, COLUMNS = 512, 3
RUNS, WARM_UP = 7, 2


def ways(arguments: argparse.Namespace) -> tuple[Tensor, dict[str, Callable[[Tensor], Tensor]]]:
    """The latent, and each way by its name."""
    exact, quick = (load_codec("taesd", models_dir=arguments.models, dtype=dtype, embedded=False) for dtype in (None, "auto"))
    if not (exact.has_encoder and exact.has_decoder):
        raise TaesdError("There is no picture of taesd's ways", "its encoder or decoder is missing", DOWNLOAD)
    source = image_to_picture(read_picture(arguments.picture)) if arguments.picture else sample_picture("Lake")
    latent = exact.encode(picture_to_image(fitted(source, SIDE)))
    found: dict[str, Callable[[Tensor], Tensor]] = {"linear RGB": lambda latent: latent_to_rgb(latent, "sd1")}
    if approx_nn := find_approx_nn("sd1", arguments.approx_nn):
        found["Approx NN"] = approx_nn
    found["no weights: embedded previewer"] = load_previewer("sd1", dtype="auto")
    for detail in ("1/8", "1/4", "full"):
        found[f"TAESD, detail {detail}"] = lambda latent, detail=detail: quick.decode(latent, detail=detail)
    return latent, found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("picture", nargs="?", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("ways.webp"), metavar="FILE", help="(ways.webp)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="a folder of weight files")
    parser.add_argument("--approx-nn", type=Path, action="append", default=[], help="folder with the WebUI's model.pt")
    add_overwrite_argument(parser)
    arguments = parser.parse_args(words)
    output: Path = arguments.output
    if output.suffix != ".webp":
        parser.error(f"{output} does not end in .webp")
    check_outputs([output], overwrite=arguments.overwrite, sources=filter(None, [arguments.picture]))
    latent, found = ways(arguments)
    taken: dict[str, list[float]] = {name: [] for name in found}
    pictures: dict[str, Tensor] = {}
    for number, name in in_turn(list(found), RUNS + WARM_UP, "draw"):
        with computing():
            drawn = timed(lambda draw=found[name]: draw(latent))
        pictures[name] = drawn.result
        if number >= WARM_UP:
            taken[name].append(1000 * drawn.wall)
    cells = []
    for name, image in pictures.items():
        image = image.float().clamp(0, 1)
        cost = f"{statistics.median(taken[name]):.3g} ms, {image.shape[-1]}x{image.shape[-2]}"
        cells.append(sheet_cell(image, name, cost))
        print(f"{name}: {cost}")
    sheet = sheet_of([cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)])
    sheet.save(output, "webp", quality=84, method=6)
    print(f"{output}: {sheet.width}x{sheet.height}, {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main()
    except TaesdError as error:
        sys.exit(f"make_ways: {error}")
