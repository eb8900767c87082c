"""Heads fitted to small random decoders, in slices."""

from pathlib import Path

import pytest
import torch
from random_heads import NETWORKS, make_codec
from torch.nn import functional

from taesd_ext.codec import heads as found_heads
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.heads import SCALES
from taesd_ext.learning import heads, lessons
from taesd_ext.learning.heads import HEAD_TEACHERS, HeadLesson, learn_heads, train_head
from taesd_ext.models.student import Head

LESSONS = 4
QUICK = torch.float64
"""Stands for a narrow type that the processor is quick in."""


@pytest.fixture(autouse=True)
def _small_and_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few small lessons and shallow heads; random weights are allowed to look bad."""
    monkeypatch.setattr(found_heads, "DATA", tmp_path / "data")
    monkeypatch.setattr(lessons, "LESSON_PIXELS", 32)
    for scale, teachers in {8: (), 4: ((2, 2),), 2: ()}.items():
        monkeypatch.setitem(HEAD_TEACHERS, scale, teachers)
    monkeypatch.setattr(heads, "HELD_BACK", 2)
    monkeypatch.setattr(heads, "WORST_ALLOWED", 0.0)
    monkeypatch.setattr(heads, "resolve_dtype", lambda *_: torch.float32)
    monkeypatch.setattr(heads, "STEPS", 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_learnt_details_show_the_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "LESSON_PIXELS", 64)
    codec, state = make_codec(name), torch.get_rng_state()
    shares = list(learn_heads(codec, lessons=LESSONS))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert codec.details == tuple(SCALES)
    assert codec.heads.origin == "own"
    latent = torch.randn(1, codec.latent_channels, 64 // codec.spatial_scale_factor, 2) * 0.7
    full = codec.decode(latent)
    for detail in ("1/4", "1/2"):  # so few lessons have too few positions at 1/8 to learn from
        wanted = functional.avg_pool2d(full, SCALES[detail])
        flat = (wanted - wanted.mean(dim=(2, 3), keepdim=True)).square().mean()
        error = (codec.decode(latent, detail=detail) - wanted).square().mean()
        assert error < 0.8 * flat, f"{detail} is hardly better than one flat colour"
    assert not list(learn_heads(codec)), "learnt again"


def test_left_and_resumed_it_learns_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(heads, "resolve_dtype", lambda *_: QUICK)
    whole = make_codec()
    assert list(learn_heads(whole, lessons=LESSONS))
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.unlink()
    codec = make_codec()
    work = learn_heads(codec, lessons=LESSONS)
    for _ in work:
        assert torch.is_grad_enabled()
        assert codec.details == ("full",)
        torch.manual_seed(0)
        break
    assert not list(tmp_path.rglob("*.safetensors"))
    for _ in work:
        pass
    latent = torch.randn(1, 4, 2, 2)
    assert torch.equal(codec.decode(latent, detail="1/8"), whole.decode(latent, detail="1/8"))


@pytest.mark.parametrize(("fastest", "steps"), [(torch.float32, []), (QUICK, [2] * 3)])
def test_heads_are_trained_where_narrow_types_are_quick(fastest: torch.dtype, steps: list, monkeypatch) -> None:
    trained: list[int] = []

    def watch(head: Head, _lessons: list[HeadLesson], steps: int, _seed: int):
        trained.append(steps)
        yield

    monkeypatch.setattr(heads, "train_head", watch)
    monkeypatch.setattr(heads, "resolve_dtype", lambda *_: fastest)
    assert list(learn_heads(make_codec(), lessons=LESSONS))
    assert trained == steps


def test_training_brings_a_head_nearer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, head = Head(1).requires_grad_(False), Head(1).requires_grad_(False)
        features = torch.rand(12, 1, 64, 8, 8)
    head.readout.load_state_dict(teacher.readout.state_dict())
    taught = [HeadLesson(part, teacher(part), [], (True, True, False, False)) for part in features]

    def error() -> float:
        return sum(float((head(one.features) - one.target)[..., :6, :6].square().mean()) for one in taught)

    before = error()
    for _ in train_head(head, taught, 60, seed=0):
        pass
    assert error() < before / 2
    assert not any(weight.requires_grad for weight in head.parameters())


def test_it_learns_in_inference_mode_and_without_an_encoder() -> None:
    whole = make_codec()
    assert not list(learn_heads(Codec(whole.name, whole.format, encoder=whole.encoder))), "nothing to learn"
    codec = Codec(whole.name, whole.format, decoder=whole.decoder)
    with torch.inference_mode():
        assert list(learn_heads(codec, lessons=LESSONS))
    assert codec.details == tuple(SCALES)
    assert not codec.decode(torch.randn(1, 4, 2, 2), detail="1/2").is_inference()


def test_a_bad_fit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "WORST_ALLOWED", 200.0)
    codec = make_codec()
    assert list(learn_heads(codec, lessons=LESSONS))
    assert codec.details == ("full",)


def test_a_student_that_is_worse_gives_way_to_the_linear_readout(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_head = heads.fit_head

    def spoilt(head: Head, *rest):
        yield from fit_head(head, *rest)
        if head.hidden:
            head.readout.bias.add_(0.5)

    monkeypatch.setattr(heads, "fit_head", spoilt)
    codec = make_codec()
    assert list(learn_heads(codec, lessons=LESSONS))
    assert not codec.heads.layers(4)[-1].hidden
