"""The ladder of previews: by the first way that works, at the most detail that the budget allows."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import log_once, one_line
from taesd_ext.learning.readout import Learnt
from taesd_ext.preview.budget import SpeedBook
from taesd_ext.preview.device_queue import Stopwatch, shares_queue
from taesd_ext.preview.drawing import Painter, painters, pictures_only
from taesd_ext.preview.frame import PreviewImage, film_image, preview_image, to_pixels
from taesd_ext.preview.job import Job
from taesd_ext.preview.scene import MOST_FRAMES, Scene, between_key_frames, spread
from taesd_ext.settings import AUTO
from taesd_ext.weights.installed import NoWeights

_T = TypeVar("_T")

_LEAST_FRAMES = 4
"""Of a moving preview that a decoder draws: the others, which go by these, are shown too."""


class NotYetError(Exception):
    """The budget does not allow a preview now."""


@dataclass(frozen=True)
class Drawing:
    """A preview that was decoded, and is to be encoded and counted."""

    encode: Callable[[], PreviewImage]
    detail: str
    frames: int
    """1, or those of a film that were decoded."""
    film: bool
    painter: Painter
    book: SpeedBook
    seconds: float
    """Without what ``encode`` takes."""
    over_budget: bool

    def counted(self, seconds: float) -> float:
        """It took so long in all; gives the part that is its own."""
        return self.book.record(self.detail, self.painter.megapixels * self.frames, 1000 * seconds) / 1000


class Ladder:
    """Tries one way after the other, and leaves alone for a while what has failed."""

    def __init__(
        self, codec_for: Callable[[str], Codec], learnt_for: Callable[[int], Learnt | None], clock: Callable[[], float]
    ) -> None:
        self._codec_for = codec_for
        self._learnt_for = learnt_for
        self._clock = clock
        self._books: weakref.WeakKeyDictionary[object, SpeedBook] = weakref.WeakKeyDictionary()
        self.error: tuple[str, str] | None = None
        """(kind of the way, line) of what went wrong last."""

    def draw(self, job: Job, scene: Scene) -> Drawing | None:
        """By the decoder, at less detail where it fails, then by the ways without one.

        None when all fail; raises NotYetError when the budget does not allow a preview now.
        """
        for way, make in painters(self._codec_for, self._learnt_for, scene):
            painter = self._try(job, way, make)
            if painter and (drawing := self._draw_by(job, painter, scene)):
                return drawing
        return None

    def note(self, job: Job, way: str, error: Exception) -> None:
        line = one_line(error)
        if not isinstance(error, NoWeights):  # previews without a file are no fault
            job.troubled = True
            self.error = _kind(way), line
        log_once(f"preview {line}", line)

    def _draw_by(self, job: Job, painter: Painter, scene: Scene) -> Drawing | None:
        """At the most detail that the budget allows, or less where that fails."""
        details, settings = painter.details, scene.settings
        if all(job.rests(detail, self._clock()) for detail in details):
            return None
        book = self._books.setdefault(painter.speed, SpeedBook(shared_queue=shares_queue(painter.device)))
        allowed = details
        if settings.budget:
            allowed = details[details.index(self._affordable(job, painter, scene, book)) :]
        over_budget = settings.detail != AUTO and allowed != details
        for detail in allowed:
            frames, whole = self._film(job, painter, scene, book, detail)
            make = partial(self._decoded, painter, scene, book, detail, frames, whole, over_budget)
            if drawing := self._try(job, detail, make):
                return drawing
        return None

    def _affordable(self, job: Job, painter: Painter, scene: Scene, book: SpeedBook) -> str:
        share = scene.settings.budget / 100
        # Only a finer frame is worth the rest of the budget: with one detail the last step is like any other.
        last = job.at_last_step and job.frame is not None and len(painter.details) > 1
        # A film may be drawn by one frame of it where there is no room for more.
        for frames in sorted({1, min(_LEAST_FRAMES, scene.most_frames)}, reverse=True):
            costs = book.costs(painter.details[::-1], painter.megapixels * frames)
            chosen = job.budget.choose(self._clock(), share, costs, frames_left=job.frames_left, last=last)
            if chosen is not None:
                return chosen
        raise NotYetError

    def _film(self, job: Job, painter: Painter, scene: Scene, book: SpeedBook, detail: str) -> tuple[int, bool]:
        """How many frames are decoded, and whether by the decoder's time layers: they need the whole film."""
        if not scene.film:
            return 1, False
        room = MOST_FRAMES
        if scene.settings.budget:
            room = min(room, job.budget.frames_of_film(book.predict(detail, painter.megapixels)))
        made = painter.film_length(len(scene.latents)) if painter.paint_film else 0
        return (made, True) if 0 < made <= room else (min(room, scene.most_frames), False)

    def _decoded(
        self, painter: Painter, scene: Scene, book: SpeedBook, detail: str, frames: int, whole: bool, over_budget: bool
    ) -> Drawing:
        watch, settings = Stopwatch(painter.device, self._clock), scene.settings
        image = painter.paint_film(scene.latents, detail) if whole else _painted(painter, scene, detail, frames)
        watch.decoded()
        image = pictures_only(image, painter.family)
        if scene.film:
            encode = partial(film_image, to_pixels(image), scene.seconds, max_side=settings.max_side)
        else:
            still = preview_image(image, max_side=settings.max_side, frame_format=settings.frame_format)
            encode = lambda: still  # noqa: E731
        return Drawing(encode, detail, frames, scene.film, painter, book, watch.seconds(), over_budget)

    def _try(self, job: Job, way: str, make: Callable[[], _T]) -> _T | None:
        """What ``make`` gives, or None where it fails or failed a short while ago."""
        if job.rests(way, self._clock()):
            return None
        try:
            made = make()
        except Exception as error:
            job.failed(way, self._clock())
            self.note(job, way, error)
            return None
        job.resting.pop(way, None)
        if made is not None and self.error and self.error[0] == _kind(way):
            self.error = None
        return made


def _painted(painter: Painter, scene: Scene, detail: str, count: int) -> Tensor:
    """All that a scene shows; of a film only so many frames by the painter itself."""
    latents = scene.frames
    if not scene.film or count == len(latents):
        return painter.paint(latents, detail)
    places = spread(count, len(latents))
    return between_key_frames(latents, places, pictures_only(painter.paint(latents[places], detail), painter.family))


def _kind(way: str) -> str:
    """What an error is kept under: another family's decoder that works puts an end to "no weights", too."""
    return way.partition(" ")[0]
