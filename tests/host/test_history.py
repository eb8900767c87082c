"""The kept latents of a host's generations, and whose parameters they get."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch

from taesd_ext.host.register import register


def generated(p, *seeds: int) -> None:
    """One run of process_images as the host tells scripts of it; its latents hold their seed."""
    extension = register()
    extension.before_process(p, (), False)
    extension.process(p)
    for seed in seeds:
        extension.post_sample(p, torch.full((1, 4, 2, 2), float(seed)))
    infotexts = [f"picture {seed}" for seed in seeds]
    extension.postprocess(p, SimpleNamespace(infotexts=infotexts, all_seeds=list(seeds), index_of_first_image=0))


def kept(runtime) -> list[tuple[float, str, int | None]]:
    """(what the latent holds, parameters, seed), oldest first."""
    return [
        (latent.latent.mean().item(), latent.infotext, latent.extra.get("seed"))
        for latent in reversed(runtime.history.latents.kept())
    ]


def test_a_script_that_runs_the_same_object_again(host, runtime):
    """A1111's loopback."""
    p = host.processing.Processing()
    for number in range(3):
        generated(p, number)
    assert kept(runtime) == [(number, f"picture {number}", number) for number in range(3)]


def test_copies_of_an_object_and_batches(host, runtime):
    """A1111's X/Y/Z plot."""
    p = host.processing.Processing()
    for seeds in ([0, 1], [2], [3, 4]):
        generated(copy.copy(p), *seeds)
    assert kept(runtime) == [(seed, f"picture {seed}", seed) for seed in range(5)]


def test_after_a_generation_that_broke_off(host, runtime):
    extension, p = register(), host.processing.Processing()
    extension.before_process(p, (), False)
    extension.process(p)
    extension.post_sample(p, torch.full((1, 4, 2, 2), 7.0))
    generated(p, 8)
    assert [(value, infotext) for value, infotext, _ in kept(runtime)] == [(7.0, ""), (8.0, "picture 8")]


def test_a_picture_of_nan_is_not_a_finished_one(host, runtime):
    generated(host.processing.Processing(), 1, float("nan"), 3)
    assert kept(runtime) == [(1, "picture 1", 1), (3, "picture 3", 3)]
    assert {latent.job for latent in runtime.keeping.latents.kept()} == {1}
