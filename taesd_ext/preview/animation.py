"""A job's previews as one animated picture or film."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.GifImagePlugin import getdata

from taesd_ext.errors import TaesdError, one_line
from taesd_ext.preview.frame import limited
from taesd_ext.preview.recorder import RecordedFrame

KINDS = ("webp", "gif", "mp4")

LARGEST_SIDE = 2048
_MOST_HOLD = 30.0
_MOST_LENGTH = 120.0
_MOST_RATE = 30
"""Frames a second: more are not seen."""
_MOST_PICTURES = 300
_MOST_PIXELS = 300e6
"""Of all frames of a WebP or GIF, which grows with each of them: half a minute of work, some tens of megabytes."""
_SHORTEST_MS = 20
"""Browsers take less for an error, and show such a frame for a tenth of a second."""
_FFMPEG_SECONDS = 300.0


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


def picked_frames(frames: Sequence[RecordedFrame], plan: AnimationPlan) -> list[RecordedFrame]:
    """An even choice of as many frames as can be seen, the first and the last among them."""
    if not frames:
        raise TaesdError("There is no film", "no preview of this job was kept")
    most = _MOST_RATE * plan.length
    if plan.kind != "mp4":
        width, height = _film_size(frames, plan)
        most = min(most, _MOST_PICTURES, _MOST_PIXELS / (width * height))
    return _spread(frames, min(len(frames), max(2, int(most))))


def animate(frames: Sequence[RecordedFrame], plan: AnimationPlan) -> bytes:
    """The file's bytes. Raises TaesdError: no frames, or MP4 without anything that writes it.

    One frame at a time is in memory as a picture: a long job's frames would be gigabytes.
    """
    picked = picked_frames(frames, plan)
    size = _film_size(picked, plan)
    if plan.kind == "mp4":
        return _mp4(picked, size, plan)
    buffer = io.BytesIO()
    (_write_webp if plan.kind == "webp" else _write_gif)(buffer, picked, size, plan)
    return buffer.getvalue()


def _spread(frames: Sequence[RecordedFrame], count: int) -> list[RecordedFrame]:
    last = len(frames) - 1
    return [frames[round(place * last / (count - 1))] if count > 1 else frames[last] for place in range(count)]


def _film_size(frames: Sequence[RecordedFrame], plan: AnimationPlan) -> tuple[int, int]:
    """The last frame's, which all get: hires fix changes it on the way."""
    full = frames[-1].full_size
    scale = plan.side / max(full)
    width, height = limited((round(full[0] * scale) or 1, round(full[1] * scale) or 1), plan.side)
    # The usual colours of MP4 have half the sides.
    return (max(2, width - width % 2), max(2, height - height % 2)) if plan.kind == "mp4" else (width, height)


def _resized(frame: RecordedFrame, size: tuple[int, int]) -> Image.Image:
    return frame.picture().resize(size, Image.Resampling.BICUBIC)


def _durations(count: int, plan: AnimationPlan, unit: int) -> list[int]:
    """Milliseconds of each frame in multiples of ``unit``, which add up to the length whatever each is rounded to."""
    ends = [round(1000 * plan.length * place / count / unit) for place in range(count + 1)]
    each = [max(_SHORTEST_MS, unit * (after - before)) for before, after in pairwise(ends)]
    each[-1] = max(each[-1], round(1000 * plan.hold / unit) * unit)
    return each


class _Reel(Image.Image):
    """A picture that turns into the next frame when it is asked for: Pillow makes a list of anything else."""

    _frames: Sequence[RecordedFrame]
    _place: int

    @classmethod
    def of(cls, frames: Sequence[RecordedFrame], size: tuple[int, int]) -> _Reel:
        reel = _resized(frames[0], size)
        reel.__class__ = cls  # Image has no public way to build a subclass from pixels
        reel._frames, reel._place = frames, 0
        return reel

    @property
    def n_frames(self) -> int:
        return len(self._frames)

    def tell(self) -> int:
        return self._place

    def seek(self, frame: int) -> None:
        if not 0 <= frame < len(self._frames):
            raise EOFError(f"there is no frame {frame}")
        if frame != self._place:
            self._place = frame
            self.paste(_resized(self._frames[frame], self.size))


def _write_webp(target: IO[bytes], frames: Sequence[RecordedFrame], size: tuple[int, int], plan: AnimationPlan) -> None:
    _Reel.of(frames, size).save(
        target, "WEBP", save_all=True, duration=_durations(len(frames), plan, 1), loop=0, quality=85, method=2
    )


def _write_gif(target: IO[bytes], frames: Sequence[RecordedFrame], size: tuple[int, int], plan: AnimationPlan) -> None:
    """Each frame has a palette of its own. Pillow's way of saving several holds them all until the end."""
    repeat_for_ever = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    target.write(b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0) + repeat_for_ever)
    # GIF counts in hundredths of a second.
    for frame, duration in zip(frames, _durations(len(frames), plan, 10), strict=True):
        picture = _resized(frame, size).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
        target.writelines(getdata(picture, duration=duration, disposal=1, include_color_table=True))
    target.write(b";")


def _mp4(frames: Sequence[RecordedFrame], size: tuple[int, int], plan: AnimationPlan) -> bytes:
    writer = mp4_writer()
    if writer is None:
        raise TaesdError(
            "MP4 cannot be written", "neither PyAV nor ffmpeg is here", "pip install av, or save as WebP or GIF"
        )
    # Whole frames a second.
    rate = max(1, min(_MOST_RATE, round(len(frames) / max(plan.length, 0.1))))
    shown = _spread(frames, max(min(2, len(frames)), round(rate * plan.length)))
    shown += [frames[-1]] * round(plan.hold * rate)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"
        try:
            (_write_with_av if writer == "av" else _write_with_ffmpeg)(_pictures(shown, size), size, rate, target)
        except Exception as error:
            raise TaesdError("MP4 cannot be written", one_line(error), "Save as WebP or GIF") from error
        return target.read_bytes()


def _pictures(frames: Sequence[RecordedFrame], size: tuple[int, int]) -> Iterator[Image.Image]:
    """Each frame resized, when it is asked for; one that is shown again at once is not made again."""
    before = picture = None
    for frame in frames:
        if picture is None or frame is not before:
            before, picture = frame, _resized(frame, size)
        yield picture


def _write_with_av(pictures: Iterable[Image.Image], size: tuple[int, int], rate: int, target: Path) -> None:
    import av

    with av.open(str(target), "w", options={"movflags": "faststart"}) as film:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = film.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_image(picture)):
                film.mux(packet)
        for packet in stream.encode():
            film.mux(packet)


def _write_with_ffmpeg(pictures: Iterable[Image.Image], size: tuple[int, int], rate: int, target: Path) -> None:
    width, height = size
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"]
    coded = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-y", str(target)]
    program = shutil.which("ffmpeg") or "ffmpeg"
    # What it says goes to a file: a pipe that nobody reads while pictures are sent may fill up.
    with (target.parent / "said").open("w+b") as said:
        running = subprocess.Popen([program, "-loglevel", "error", *raw, *coded], stdin=subprocess.PIPE, stderr=said)
        limit = threading.Timer(_FFMPEG_SECONDS, running.kill)
        limit.start()
        try:
            with contextlib.suppress(BrokenPipeError), running.stdin as pipe:
                for picture in pictures:
                    pipe.write(picture.tobytes())
            running.wait()
        finally:
            limit.cancel()
            running.kill()
            running.wait()
        said.seek(0)
        if running.returncode:
            raise RuntimeError(said.read().decode(errors="replace").strip()[-300:] or "ffmpeg failed")
