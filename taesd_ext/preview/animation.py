"""A job's previews as one animated picture or film."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.preview.frame import limited
from taesd_ext.preview.recorder import RecordedFrame

KINDS = ("webp", "gif", "mp4")

LARGEST_SIDE = 2048
_MOST_HOLD = 30.0
_MOST_LENGTH = 120.0


@dataclass(frozen=True)
class AnimationPlan:
    """How the film is to be."""

    kind: str = "webp"
    length: float = 4.0
    """Seconds from the first frame to the last."""
    hold: float = 1.5
    """Seconds for which the last frame stays."""
    side: int = 512
    """Longest side in pixels; frames of less detail are scaled up."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TaesdError(f"{self.kind} is no kind of film", "", f"Use one of {', '.join(KINDS)}")
        for what, value, largest in (("length", self.length, _MOST_LENGTH), ("hold", self.hold, _MOST_HOLD)):
            if not 0 <= value <= largest:
                raise TaesdError(f"A {what} of {value:g} seconds cannot be", "", f"Use 0 to {largest:g}")
        if not 16 <= self.side <= LARGEST_SIDE:
            raise TaesdError(f"A side of {self.side} pixels cannot be", "", f"Use 16 to {LARGEST_SIDE}")


def mp4_writer() -> str | None:
    """What can write MP4 here: "av" (PyAV), "ffmpeg" (the program), or None."""
    if find_spec("av"):
        return "av"
    return "ffmpeg" if shutil.which("ffmpeg") else None


def animate(frames: Sequence[RecordedFrame], plan: AnimationPlan) -> bytes:
    """The file's bytes. Raises TaesdError: no frames, or MP4 without anything that writes it."""
    if not frames:
        raise TaesdError("There is no film", "no preview of this job was kept")
    # All frames get the last one's size: hires fix changes it on the way.
    width, height = _scaled(frames[-1].full_size, plan.side, even=plan.kind == "mp4")
    pictures = [frame.picture().resize((width, height), Image.Resampling.BICUBIC) for frame in frames]
    if plan.kind == "mp4":
        return _mp4(pictures, plan)
    each = max(20, round(1000 * plan.length / len(pictures)))
    # GIF counts in hundredths of a second.
    durations = [each // 10 * 10] * (len(pictures) - 1) + [round(max(each, 1000 * plan.hold)) // 10 * 10]
    if plan.kind == "gif":
        pictures = [picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    options = {"quality": 85, "method": 2, "minimize_size": False} if plan.kind == "webp" else {"disposal": 1}
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, plan.kind.upper(), save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
    )
    return buffer.getvalue()


def _scaled(size: tuple[int, int], side: int, *, even: bool) -> tuple[int, int]:
    scale = side / max(size)
    width, height = limited((round(size[0] * scale) or 1, round(size[1] * scale) or 1), side)
    return (max(2, width - width % 2), max(2, height - height % 2)) if even else (width, height)


def _mp4(pictures: list[Image.Image], plan: AnimationPlan) -> bytes:
    # Whole frames a second, at most 30: more previews than that are thinned out.
    rate = max(1, min(30, round(len(pictures) / max(plan.length, 0.1))))
    count = max(1, min(len(pictures), round(rate * plan.length) or 1))
    chosen = [pictures[round(index * (len(pictures) - 1) / max(count - 1, 1))] for index in range(count)]
    chosen[-1] = pictures[-1]
    chosen += [pictures[-1]] * round(plan.hold * rate)
    writer = mp4_writer()
    if writer is None:
        raise TaesdError(
            "MP4 cannot be written", "neither PyAV nor ffmpeg is here", "pip install av, or save as WebP or GIF"
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"
        try:
            (_write_with_av if writer == "av" else _write_with_ffmpeg)(chosen, rate, target)
        except Exception as error:
            raise TaesdError("MP4 cannot be written", one_line(error), "Save as WebP or GIF") from error
        return target.read_bytes()


def _write_with_av(pictures: list[Image.Image], rate: int, target: Path) -> None:
    import av

    with av.open(str(target), "w", options={"movflags": "faststart"}) as film:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = film.add_stream(codec, rate=rate)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_image(picture)):
                film.mux(packet)
        for packet in stream.encode():
            film.mux(packet)


def _write_with_ffmpeg(pictures: list[Image.Image], rate: int, target: Path) -> None:
    width, height = pictures[0].size
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"]
    coded = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-y", str(target)]
    done = subprocess.run(
        [shutil.which("ffmpeg") or "ffmpeg", "-loglevel", "error", *raw, *coded],
        input=b"".join(picture.tobytes() for picture in pictures), capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip()[-300:] or "ffmpeg failed")
