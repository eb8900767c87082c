"""How good previews learnt from so many finished pictures are: a known latent format is taken as an unknown one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from taesd_ext.codec.codec import Codec
from taesd_ext.commands.quality import read_photos
from taesd_ext.learning.pairs import Pair, make_pair
from taesd_ext.learning.readout import Learnt, learn_readout, mean_psnr, train_previewer_on

COUNTS = (1, 2, 4, 8, 16, 24)
CROP = 256
HELD_BACK = 3
"""Every so many photographs, from the first on, one is only shown."""


def learning_curve(codec: Codec, folder: Path, steps: int) -> Iterator[str]:
    """A line for each number of pictures; at the last one a previewer is trained so many steps, too."""
    photos = read_photos(folder)
    exam = [_pair(codec, crop) for photo in photos[::HELD_BACK] for crop in _corners(photo)]
    others = [list(_corners(photo)) for place, photo in enumerate(photos) if place % HELD_BACK]
    taught = [_pair(codec, crop) for crops in zip(*others, strict=True) for crop in crops]
    yield f"{len(exam)} crops held back, {taught[0].bytes / 1e3:.0f} KB a pair"
    for count in (count for count in COUNTS if count <= len(taught)):
        began = time.process_time()
        learnt = learn_readout(taught[:count])
        yield _line(count, learnt, exam, time.process_time() - began)
    if steps:
        began = time.process_time()
        *_, found = train_previewer_on(taught, steps)
        yield f"{_line(len(taught), found.trained, exam, time.process_time() - began)}, trained {steps} steps"


def _line(count: int, learnt: Learnt, exam: list[Pair], seconds: float) -> str:
    shown = mean_psnr(learnt.preview, exam)
    return f"{count:3} pictures: {shown:5.2f} dB (it says {learnt.psnr:.1f}), {seconds:.2f} CPU s"


def _corners(photo: Tensor) -> Iterator[Tensor]:
    for rows in (slice(None, CROP), slice(-CROP, None)):
        for columns in (slice(None, CROP), slice(-CROP, None)):
            yield photo[..., rows, columns]


def _pair(codec: Codec, crop: Tensor) -> Pair:
    latent = codec.encode(crop)
    return make_pair(latent, codec.decode(latent))
