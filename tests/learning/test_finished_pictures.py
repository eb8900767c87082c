"""Previews learnt from pairs of latent and finished picture."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.noise import seeded
from taesd_ext.learning import finished_pictures
from taesd_ext.learning.finished_pictures import FinishedPictures
from taesd_ext.learning.pairs import SIDE, LatentKind, make_pair
from taesd_ext.learning.readout import learn_readout, mean_psnr, train_previewer_on
from taesd_ext.learning.synthetic_pictures import picture

KIND = LatentKind("Invented", 12)


def encode(image: Tensor) -> Tensor:
    """An invented VAE: 2x2 averages of each 8x8 square, mixed, with a scale of its own."""
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=seeded(5))).Q
    parts = functional.pixel_unshuffle(functional.avg_pool2d(image, 4), 2)
    return torch.einsum("dc,bchw->bdhw", mixing, parts) * 40 + 7


def finished(seed: int, side: int = 128) -> tuple[Tensor, Tensor]:
    image = picture(side, seeded(seed))[None]
    return encode(image), image


def pairs(*seeds: int):
    return [make_pair(*finished(seed)) for seed in seeds]


def learning_from(count: int) -> FinishedPictures:
    pictures = FinishedPictures()
    for seed in range(count):
        pictures.add(KIND, *finished(seed))
    return pictures


def test_the_first_picture_teaches_and_more_do_so_better() -> None:
    unseen = pairs(100, 101, 102)
    found = [mean_psnr(learn_readout(pairs(*range(count))).preview, unseen) for count in (1, 8)]
    assert found[0] > 15
    assert found[1] > max(found[0], 30)


def test_its_quality_is_that_on_pictures_that_it_does_not_know() -> None:
    learnt = learn_readout(pairs(*range(6)))
    unseen = mean_psnr(learnt.preview, pairs(*range(100, 120)))
    assert abs(learnt.psnr - unseen) < 6
    assert learnt.pictures == 6


def test_a_piece_is_small_and_matches_its_picture() -> None:
    latent, image = finished(0, 8 * (SIDE + 20))
    pair = make_pair(latent, image)
    assert pair.latent.shape == (1, 12, SIDE, SIDE)
    wanted = functional.avg_pool2d(image, 4)[..., 20 : 20 + 2 * SIDE, 20 : 20 + 2 * SIDE]
    assert torch.allclose(pair.picture.float(), wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("latent", "image"),
    [
        (torch.zeros(1, 12, 4, 4), torch.zeros(1, 3, 32, 32)),
        (torch.zeros(1, 12, 16, 16), torch.zeros(1, 3, 128, 120)),
        (torch.zeros(1, 12, 16, 16), torch.zeros(1, 3, 16, 16)),
        (torch.full((1, 12, 16, 16), torch.nan), torch.zeros(1, 3, 128, 128)),
    ],
)
def test_what_cannot_teach_is_left_out(latent: Tensor, image: Tensor) -> None:
    assert make_pair(latent, image) is None
    pictures = FinishedPictures()
    assert not pictures.add(KIND, latent, image)
    assert not pictures.update(KIND)


def test_learnt_kept_found_again_and_forgotten() -> None:
    pictures, state = FinishedPictures(), torch.get_rng_state()
    latent, image = finished(0)
    assert pictures.add(KIND, latent, image)
    assert pictures.update(KIND)
    assert torch.equal(torch.get_rng_state(), state)
    again, other = FinishedPictures(), LatentKind("Invented", 12, vae="another")
    learnt = again.find(KIND)
    assert learnt.pictures == 1
    assert torch.allclose(learnt.preview(latent), pictures.find(KIND).preview(latent), atol=1e-5)
    assert learnt.preview(latent.half()).shape == (1, 3, 32, 32)
    assert again.find(other) is None
    assert list(again.learnt()) == list(FinishedPictures().learnt()) == [KIND]
    again.forget(KIND)
    assert again.find(KIND) is None
    assert not again.learnt()
    assert FinishedPictures().find(KIND) is None


def test_each_picture_makes_it_better_also_one_that_is_unlike_those_before() -> None:
    pictures = FinishedPictures()
    for seed in range(3):
        latent, image = finished(seed)
        pictures.add(KIND, latent, image if seed else image * 0.2 + 0.1)
        assert pictures.update(KIND)
        assert not pictures.update(KIND), "nothing is new"
        assert pictures.find(KIND).pictures == seed + 1


def test_a_good_one_of_an_earlier_run_stays_until_there_is_a_better_one() -> None:
    assert learning_from(8).update(KIND)
    again = FinishedPictures()
    again.add(KIND, *finished(20))
    assert not again.update(KIND)
    assert again.find(KIND).pictures == 8


def test_what_is_better_already_stays() -> None:
    pictures = learning_from(1)
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=seeded(5))).Q

    def exact(latent: Tensor) -> Tensor:
        parts = torch.linalg.solve(mixing, ((latent - 7) / 40).flatten(2))
        return functional.pixel_shuffle(parts.view_as(latent), 2)

    assert not pictures.update(KIND, [exact])
    assert pictures.update(KIND, [lambda latent: torch.zeros_like(latent[:, :3])])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished_pictures, "MOST_BYTES", 30_000)
    pictures, other = FinishedPictures(), LatentKind("Other", 12)
    for seed in range(6):
        pictures.add(KIND if seed % 2 else other, *finished(seed))
    kept = [pair for kind in (KIND, other) for pair in pictures._pairs_of(kind)]
    assert kept
    assert sum(pair.bytes for pair in kept) <= 30_000


def test_training_starts_from_the_readout_and_can_be_left() -> None:
    some = pairs(*range(4))
    state = torch.get_rng_state()
    *steps, (found, _) = train_previewer_on(some, steps=12)
    assert steps == [None] * 12
    assert found.psnr > 20
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(learning_from(3).train(KIND)), "too few to train on"


def test_a_trained_previewer_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished_pictures, "BETTER_BY", -100.0)
    pictures = learning_from(4)
    assert list(pictures.train(KIND, steps=2))[-1]
    latent = finished(9)[0]
    assert torch.allclose(FinishedPictures().find(KIND).preview(latent), pictures.find(KIND).preview(latent), atol=1e-5)


def test_a_damaged_file_is_passed_over() -> None:
    KIND.file.parent.mkdir(parents=True)
    KIND.file.write_bytes(b"nonsense")
    assert FinishedPictures().find(KIND) is None
