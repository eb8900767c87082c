"""The moments of a host's generations: every step and every finished picture, and whose parameters they get."""

import copy
from types import SimpleNamespace

import pytest
import torch

from taesd_ext.host.register import register


def seen_steps(host, **kwargs):
    """Run a generation -> (its processing object, what the preview could show at each step)."""
    seen = []
    p, pictures = host.generate(on_step=lambda p, step: seen.append(host.state.current_latent.clone()), **kwargs)
    return p, seen, pictures


def moments(extension) -> list:
    """Of the newest job, oldest first."""
    return extension.history.jobs.moments(extension.history.jobs.jobs()[0].id)[::-1]


@pytest.mark.parametrize(("kwargs", "batch", "sides"), [
    ({}, 1, [16] * 4),
    ({"batch": 2}, 2, [16] * 4),
    ({"enable_hr": True}, 1, [16] * 4 + [32] * 4),
], ids=["txt2img", "batch", "hires fix"])  # fmt: skip
def test_every_step_and_the_finished_pictures_are_kept(host, extension, kwargs, batch, sides):
    p, seen, _ = seen_steps(host, **kwargs)
    kept = moments(extension)
    steps = [moment for moment in kept if moment.step]
    finished = [moment for moment in kept if moment.step is None]

    assert [moment.step for moment in steps[::batch]] == list(range(1, len(sides) + 1))
    assert [8 * moment.latent.shape[-1] for moment in steps[::batch]] == sides
    for step, latents in enumerate(seen, 1):
        ours = sorted((moment for moment in steps if moment.step == step), key=lambda moment: moment.picture)
        assert torch.equal(torch.cat([moment.latent for moment in ours]), latents.half())
    assert [moment.picture for moment in finished[::-1]] == list(range(1, batch + 1))
    assert torch.equal(torch.cat([moment.latent for moment in finished[::-1]]), p.latents[-1])


def test_the_same_seed_gives_the_same_picture_with_and_without(host, extension):
    pictures = []
    for on in (True, False):
        host.opts.taesd_ext_keep_latents = host.opts.taesd_ext_timeline = on
        torch.manual_seed(3)
        pictures.append(host.generate()[1])
    assert extension.history.jobs.jobs() == []
    assert torch.equal(*pictures)


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_interrupted_picture_is_what_the_preview_showed_where_that_is_wanted(host, extension, wanted, batch):
    host.opts.taesd_ext_interrupted = wanted
    seam = host.sd_samplers_common.samples_to_images_tensor.__wrapped__

    def interrupt(p, step):
        if step == 1:
            host.state.interrupted = True
            host.state.current_latent = torch.full_like(host.state.current_latent, 0.123)

    _, pictures = host.generate(on_step=interrupt, batch=batch)
    finished = [moment.latent for moment in moments(extension) if moment.step is None]
    assert len(finished) == batch
    predicted = torch.full_like(finished[0], 0.123).half().float()
    assert all(torch.equal(latent, predicted) for latent in finished) == wanted
    with extension.final.hosts_vae():
        alone = torch.cat([seam(latent.float(), 0) for latent in finished])
    assert torch.equal(pictures, ((alone + 1) / 2).clamp(0, 1))


def test_decodes_that_are_no_picture_of_the_job_are_not_kept(host, extension):
    """A look at what is being sampled, by an extension, and what scripts make of finished pictures."""
    look = torch.zeros(1, 4, 2, 2)

    def decode(*_):
        host.sd_samplers_common.samples_to_images_tensor(look, 0)

    decode()
    p, _ = host.generate(on_step=decode, on_pictures=decode)
    assert [moment.picture for moment in moments(extension) if moment.step is None] == [1]
    assert torch.equal(extension.history.jobs.finished()[0].latent, p.latents[-1])


def test_a_job_inside_another_is_marked_and_the_outer_goes_on_as_itself(host, extension):
    def inner(_):
        host.processing._process_images(host.processing.Processing(scripts=[host.script], steps=2))

    host.generate(on_pictures=inner)
    first, second = extension.history.jobs.jobs()[::-1]
    assert (first.inner, second.inner) == (False, True)
    assert (len(first.moments), len(second.moments)) == (4, 2)
    assert first.finished
    assert second.finished


def generated(p, *seeds: int) -> None:
    """One run of process_images as the host tells scripts of it; its latents hold their seed."""
    extension = register()
    extension.before_process(p, ())
    extension.process(p)
    for seed in seeds:
        extension.process_batch(p)
        latent = torch.full((1, 4, 2, 2), float(seed))
        extension.host.state.current_latent = latent
        extension.previews.step_done(1, 1)
        extension.history.decoding(latent)
        extension.postprocess_batch(p)
    infotexts = [f"picture {seed}" for seed in seeds]
    extension.postprocess(p, SimpleNamespace(infotexts=infotexts, all_seeds=list(seeds), index_of_first_image=0))


def kept(extension) -> list[tuple[float, str, int | None]]:
    """(what the latent holds, parameters, seed), oldest first."""
    return [
        (latent.latent.mean().item(), latent.infotext, latent.extra["seed"])
        for latent in reversed(extension.history.jobs.finished())
    ]


def test_a_script_that_runs_the_same_object_again(host, extension):
    """A1111's loopback."""
    p = host.processing.Processing()
    for number in range(3):
        generated(p, number)
    assert kept(extension) == [(number, f"picture {number}", number) for number in range(3)]


def test_copies_of_an_object_and_batches(host, extension):
    """A1111's X/Y/Z plot."""
    p = host.processing.Processing()
    for seeds in ([0, 1], [2], [3, 4]):
        generated(copy.copy(p), *seeds)
    assert kept(extension) == [(seed, f"picture {seed}", seed) for seed in range(5)]


def test_after_a_generation_that_broke_off(host, extension):
    p = host.processing.Processing()

    def break_off(p):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        host.generate(on_pictures=break_off)
    generated(p, 8)
    assert [infotext for _, infotext, _ in kept(extension)] == ["", "picture 8"]


def test_the_moments_of_a_job_that_broke_off_have_its_parameters(host, extension, monkeypatch):
    """No memory for the last decode, say: what was sampled is there, and may be decoded in tiles or by TAESD."""
    processed = SimpleNamespace(infotext=lambda p, place: f"picture {place} of {p.steps} steps")
    monkeypatch.setattr(host.processing, "Processed", lambda p, images: processed, raising=False)
    host.model.decode_first_stage = None
    with pytest.raises(TypeError):
        host.generate(batch=2, on_step=lambda p, _step: setattr(p, "all_seeds", [7, 8]))
    assert {(moment.picture, moment.infotext) for moment in moments(extension) if moment.step} == {
        (1, "picture 0 of 4 steps"), (2, "picture 1 of 4 steps"),
    }  # fmt: skip


def test_a_picture_of_nan_is_not_a_finished_one(host, extension):
    generated(host.processing.Processing(), 1, float("nan"), 3)
    assert kept(extension) == [(1, "picture 1", 1), (3, "picture 3", 3)]
    assert all(moment.latent.isfinite().all() for moment in moments(extension))
