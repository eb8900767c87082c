"""A job's previews as one animated picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image

from taesd_ext.errors import TaesdError
from taesd_ext.preview.frame import Frame, limited

KINDS = ("webp", "gif")

LARGEST_SIDE = 2048
_MOST_HOLD = 30.0
_MOST_LENGTH = 120.0
_MOST_RATE = 30
"""Frames a second: more are not seen."""
_MOST_PICTURES = 300
_MOST_PIXELS = 150e6
"""Of all frames: Pillow's writers hold them in memory, three bytes a pixel."""
_SHORTEST_MS = 20
"""Browsers take less for an error, and show such a frame for a tenth of a second."""


@dataclass(frozen=True)
class AnimationPlan:
    """How the film is to be."""

    kind: str = "webp"
    length: float = 4.0
    """Seconds from the first frame to the last."""
    hold: float = 1.5
    """Seconds for which the last frame stays."""
    side: int = 512
    """Longest side in pixels; a film whose frames have fewer keeps theirs."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TaesdError(f"{self.kind} is not a film format", "", f"Use one of {', '.join(KINDS)}")
        for what, value, largest in (("length", self.length, _MOST_LENGTH), ("hold", self.hold, _MOST_HOLD)):
            if not 0 <= value <= largest:
                raise TaesdError(f"A {what} of {value:g} seconds is out of range", "", f"Use 0 to {largest:g}")
        if not 16 <= self.side <= LARGEST_SIDE:
            raise TaesdError(f"A side of {self.side} pixels is out of range", "", f"Use 16 to {LARGEST_SIDE}")


def picked_frames(frames: Sequence[Frame], plan: AnimationPlan) -> list[Frame]:
    """An even choice of as many frames as can be seen, the first and the last among them."""
    if not frames:
        raise TaesdError("There is no film", "no preview of this job was kept")
    width, height = _film_size(frames, plan.side)
    most = min(_MOST_RATE * plan.length, _MOST_PICTURES, _MOST_PIXELS / (width * height))
    count, last = min(len(frames), max(2, int(most))), len(frames) - 1
    return [frames[round(place * last / (count - 1))] if count > 1 else frames[last] for place in range(count)]


def animate(frames: Sequence[Frame], plan: AnimationPlan) -> bytes:
    """The file's bytes. Raises TaesdError where there are no frames."""
    picked = picked_frames(frames, plan)
    pictures = [frame.image.picture for frame in picked]
    size = _film_size(picked, min(plan.side, max(max(picture.size) for picture in pictures)))
    pictures = [picture.resize(size, Image.Resampling.BICUBIC) for picture in pictures]
    options = {"quality": 85, "method": 2}
    unit = 1
    if plan.kind == "gif":
        pictures = [picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
        options = {"disposal": 1, "optimize": False}
        unit = 10  # it counts in hundredths of a second
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, plan.kind, save_all=True, append_images=pictures[1:], loop=0,
        duration=_durations(len(pictures), plan, unit), **options,
    )  # fmt: skip
    return buffer.getvalue()


def _film_size(frames: Sequence[Frame], side: int) -> tuple[int, int]:
    """The last frame's, which all get: hires fix changes it on the way."""
    full = frames[-1].full_size
    scale = side / max(full)
    return limited((round(full[0] * scale) or 1, round(full[1] * scale) or 1), side)


def _durations(count: int, plan: AnimationPlan, unit: int) -> list[int]:
    """Milliseconds of each frame in multiples of ``unit``, which add up to the length whatever each is rounded to."""
    ends = [round(1000 * plan.length * place / count / unit) for place in range(count + 1)]
    each = [max(_SHORTEST_MS, unit * (after - before)) for before, after in pairwise(ends)]
    each[-1] = max(each[-1], round(1000 * plan.hold / unit) * unit)
    return each
