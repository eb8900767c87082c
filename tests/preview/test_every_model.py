"""No model without a picture: every row, with a tiny decoder's file, without any, and after one finished picture."""

import io

import pytest
import torch
from fake_codec import FakeCodec, settings
from PIL import Image

from taesd_ext.latent_formats import LATENT_FORMATS, Detection, LatentFormat
from taesd_ext.learning.pairs import make_pair
from taesd_ext.learning.readout import Learnt, learn_readout
from taesd_ext.preview.drawing import EMBEDDED, LEARNT, LINEAR
from taesd_ext.preview.session import PreviewSession
from taesd_ext.weights.installed import no_weights


def no_codec(family: str) -> None:
    raise no_weights(family, [])


def latent_of(row: LatentFormat) -> torch.Tensor:
    """As the sampler holds it."""
    channels = row.latent_channels * row.packed**2 * row.folded_frames
    frames = (3,) if row.frames else ()
    return torch.randn(1, channels, *frames, 8, 10, generator=torch.Generator().manual_seed(1))


def learnt_from_one_picture(latent: torch.Tensor) -> Learnt:
    still = latent[:, :, 0] if latent.ndim == 5 else latent
    return learn_readout([make_pair(still, torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(2)))])


@pytest.mark.parametrize("row", LATENT_FORMATS, ids=lambda row: row.name)
def test_every_model_is_drawn(row: LatentFormat) -> None:
    latent = latent_of(row)
    learnt = learnt_from_one_picture(latent)
    for codec_for, learnt_for, details in (
        (lambda family: FakeCodec(), lambda channels: None, ("full",) if row.family else (EMBEDDED, LINEAR)),
        (no_codec, lambda channels: None, (EMBEDDED, LINEAR)),
        (no_codec, lambda channels: learnt, (EMBEDDED, LEARNT)),
    ):
        session = PreviewSession(codec_for, learnt_for=learnt_for)
        session.start(settings(), 1)
        session.step(1)
        session.poll(latent, Detection(row, "test"))
        if session._film.is_alive():
            session._film.join()
        assert session.frame.detail in details
        picture = Image.open(io.BytesIO(session.frame.image.data))
        assert getattr(picture, "is_animated", False) == (row.frames and session.frame.detail != "full")
        if session.frame.detail != "full":
            assert max(high - low for low, high in picture.convert("RGB").getextrema()) > 20, "it shows something"
