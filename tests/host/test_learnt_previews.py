"""What the host finishes itself teaches the previews of models for which no decoder is here."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from taesd_ext.codec.noise import seeded
from taesd_ext.host.learnt_previews import MOST_CHANNELS, LearntPreviews
from taesd_ext.host.model_evidence import vae_digest
from taesd_ext.latent_formats import ModelEvidence
from taesd_ext.learning.finished_pictures import ENOUGH_TO_TRAIN
from taesd_ext.learning.pairs import LatentKind, make_pair
from taesd_ext.learning.readout import learn_readout, write_learnt
from taesd_ext.learning.synthetic_pictures import picture

CHANNELS = 12


class Host:
    def __init__(self, latent_format: str | None = "Invented", vae: str = "", **more) -> None:
        self.known, self.vae, self.folders = {"latent_format": latent_format, **more}, vae, []

    def evidence(self, shape: tuple[int, ...] | None = None) -> ModelEvidence:
        return ModelEvidence(channels=shape[1] if shape else None, frames=len(shape or ()) == 5, **self.known)

    def vae_digest(self) -> str:
        return self.vae

    def weights_folders(self) -> list[Path]:
        return self.folders


def learnt_previews(host=None, *, wanted=True, decoders=(), when_idle=lambda *work: None) -> LearntPreviews:
    learnt = LearntPreviews(host or Host(), lambda: wanted, decoders.__contains__, when_idle)
    learnt.begin()
    return learnt


def finish(learnt: LearntPreviews, latent: torch.Tensor, image: torch.Tensor) -> None:
    learnt.finished(latent, image)
    for thread in threading.enumerate():
        if thread.name == "taesd-ext-learning-pictures":
            thread.join()


def job(seed: int, channels: int = CHANNELS) -> tuple[torch.Tensor, torch.Tensor]:
    """A latent and the picture that the host decodes from it, in [-1,1]."""
    image = picture(128, seeded(seed))[None]
    parts = functional.pixel_unshuffle(functional.avg_pool2d(image, 4), 2)
    return parts.repeat(1, -(-channels // 12), 1, 1)[:, :channels], image * 2 - 1


def film(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of a video: (B,C,T,h,w), and (B,T',3,H,W) as hosts give it."""
    latent, image = job(seed)
    return latent.unsqueeze(2).repeat(1, 1, 3, 1, 1), image.unsqueeze(1).repeat(1, 9, 1, 1, 1)


def with_alpha(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    latent, image = job(seed)
    return latent, torch.cat([image, torch.ones_like(image[:, :1])], 1)


def with_sound(seed: int) -> tuple[SimpleNamespace, torch.Tensor]:
    latent, image = film(seed)
    return SimpleNamespace(is_nested=True, unbind=lambda: (latent, torch.zeros(1, 8, 100))), image


@pytest.mark.parametrize("made", [job, film, with_alpha, with_sound])
def test_the_second_job_is_drawn_by_what_the_first_one_taught(made):
    learnt, (next_latent, next_image), state = learnt_previews(), job(1), torch.get_rng_state()
    assert learnt.find(CHANNELS) is None
    with torch.inference_mode():
        finish(learnt, *made(0))
    shown = learnt.find(CHANNELS).preview(next_latent)
    wanted = functional.avg_pool2d(next_image / 2 + 0.5, 4)
    assert (shown - wanted).square().mean() < (wanted - wanted.mean()).square().mean() / 4
    assert torch.equal(torch.get_rng_state(), state)
    for other in (Host("Another"), Host(vae="another")):
        assert learnt_previews(other).find(CHANNELS) is None
    (kind,) = learnt.learnt()
    learnt.forget(kind)
    assert learnt.find(CHANNELS) is None


@pytest.mark.parametrize(
    ("host", "vae", "is_found"),
    [("Invented", "", True), ("Another", "", False), ("Invented", "another", False), ("Wan21", "", False)],
)
def test_a_previewer_that_another_user_made_is_used(host, vae, is_found, tmp_path):
    latent, image = job(0)
    learnt = learn_readout([make_pair(latent, image / 2 + 0.5)])
    write_learnt(LatentKind("Invented", CHANNELS, vae), learnt, tmp_path / "given" / "any name.safetensors")
    mine = Host(host)
    mine.folders = [tmp_path / "given"]
    assert bool(learnt_previews(mine).find(CHANNELS)) == is_found


@pytest.mark.parametrize(
    ("options", "channels", "is_learnt"),
    [
        ({"host": Host(None, flags=frozenset({"is_sd1"}))}, 4, False),
        ({"host": Host("SDXL")}, 4, False),
        ({"host": Host("Wan21"), "decoders": ("taew2_1",)}, 16, False),
        ({"host": Host("Wan21")}, 16, True),
        ({}, MOST_CHANNELS + 1, False),
        ({"wanted": False}, CHANNELS, False),
    ],
)
def test_only_what_is_needed_wanted_and_not_too_dear_is_learnt(options, channels, is_learnt):
    learnt = learnt_previews(**options)
    finish(learnt, *job(0, channels))
    assert bool(learnt.learnt()) == is_learnt
    assert bool(learnt.find(channels)) == is_learnt


def test_a_better_one_is_trained_when_idle_again_for_twice_as_many_pictures():
    wanted: dict[str, object] = {}
    learnt = learnt_previews(when_idle=lambda key, name, begin: wanted.setdefault(key, begin))
    for seed in range(2 * ENOUGH_TO_TRAIN):
        finish(learnt, *job(seed))
    assert len(wanted) == 2
    assert next(iter(next(iter(wanted.values()))())) is False, "a step of it"


def test_trouble_never_reaches_the_job(monkeypatch):
    learnt = learnt_previews()
    monkeypatch.setattr(learnt._pictures, "add", lambda *_: 1 / 0)
    learnt.finished(*job(0))
    monkeypatch.undo()
    monkeypatch.setattr(learnt._pictures, "update", lambda *_: 1 / 0)
    finish(learnt, *job(0))


def test_vaes_are_told_apart_by_their_weights_whatever_these_are_stored_in():
    def model(seed: int, dtype: torch.dtype) -> SimpleNamespace:
        torch.manual_seed(seed)
        vae = SimpleNamespace(decoder=nn.Conv2d(4, 64, 3).to(dtype))
        return SimpleNamespace(first_stage_model=vae)

    first = vae_digest(model(0, torch.float32))
    assert first == vae_digest(model(0, torch.bfloat16))
    assert first != vae_digest(model(1, torch.float32))
    assert vae_digest(SimpleNamespace()) == vae_digest(None) == ""


def test_in_a_webui_it_serves_the_next_job_and_goes_by_its_option_and_by_who_may_look(host, extension, monkeypatch):
    host.load_format("Invented", CHANNELS)
    latent, image = job(0)
    assert not extension.previews.are_ours(latent)
    finish(extension.learnt, latent, image)
    assert extension.previews.are_ours(latent)
    host.opts.taesd_ext_learn = False
    assert not extension.previews.are_ours(latent)
    host.opts.taesd_ext_learn = True
    monkeypatch.setattr(extension.host, "allows_changes", lambda: False)
    assert not extension.previews.are_ours(latent)
