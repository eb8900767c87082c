"""How good previews learnt from so many finished pictures are: a known latent format is taken as an unknown one."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.previewer import has_previewer, load_previewer
from taesd_ext.commands.measuring import PeakMemory, timed
from taesd_ext.commands.quality import read_photos
from taesd_ext.learning.pairs import Pair, make_pair
from taesd_ext.learning.readout import Learnt, learn_readout, mean_psnr, train_previewer_on
from taesd_ext.models.latent_rgb import LATENT_RGB, latent_to_rgb

COUNTS = (1, 2, 4, 8, 16)
CROP = 256
HELD_BACK = 3
"""Every so many photographs, from the first on, one is only shown."""


def learning_curve(codec: Codec, folder: Path, steps: int) -> Iterator[str]:
    """A line for each number of pictures; at the last one a previewer is trained so many steps, too."""
    photos = read_photos(folder)
    exam = [_pair(codec, crop) for photo in photos[::HELD_BACK] for crop in _corners(photo)]
    others = [list(_corners(photo)) for place, photo in enumerate(photos) if place % HELD_BACK]
    crops = islice(chain.from_iterable(zip(*others, strict=True)), COUNTS[-1])
    taught = [_pair(codec, crop) for crop in crops]
    yield f"{len(exam)} crops held back, {taught[0].bytes / 1e3:.0f} KB a pair"
    for name, preview in _without_learning(codec):
        yield f"{name}: {mean_psnr(preview, exam):5.2f} dB"
    for count in (count for count in COUNTS if count <= len(taught)):
        yield _line(partial(learn_readout, taught[:count]), exam)
    if steps:
        yield f"{_line(lambda: list(train_previewer_on(taught, steps))[-1][0], exam)}, trained {steps} steps"


def _without_learning(codec: Codec) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """What shows the format without a decoder, had it not been taken as unknown."""
    if codec.format.rgb in LATENT_RGB:
        yield "published RGB matrix", lambda latent: latent_to_rgb(latent, codec.format.rgb)
    if has_previewer(codec.format.name):
        yield "shipped previewer", load_previewer(codec.format.name)


def _line(learn: Callable[[], Learnt], exam: list[Pair]) -> str:
    with PeakMemory() as memory:
        made = timed(learn)
    learnt, cost = made.result, f"{made.cpu:.2f} CPU s, {(memory.bytes or 0) / 1e6:.1f} MB"
    shown = mean_psnr(learnt.preview, exam)
    return f"{learnt.pictures:3} pictures: {shown:5.2f} dB (it says {learnt.psnr:.1f}), {cost}"


def _corners(photo: Tensor) -> Iterator[Tensor]:
    for rows in (slice(None, CROP), slice(-CROP, None)):
        for columns in (slice(None, CROP), slice(-CROP, None)):
            yield photo[..., rows, columns]


def _pair(codec: Codec, crop: Tensor) -> Pair:
    latent = codec.encode(crop)
    return make_pair(latent, codec.decode(latent))
