"""The demo's generation, without a page around it."""

import pytest
import torch
from PIL import Image

from taesd_ext.codec import embedded
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.codec.previewer import DATA
from taesd_ext.latent_formats import native_format
from taesd_ext.models.latent_rgb import LATENT_RGB
from taesd_ext.preview.drawing import LINEAR
from taesd_ext.settings import PreviewSettings
from taesd_ext.ui.pictures import fitted, sample_names, sample_picture
from taesd_ext.ui.play import Plan, Replays, noise_levels, replay
from taesd_ext.weights.installed import NoWeights


def plan_of(family="taesd", steps=6, size=32, picture=None, **settings) -> Plan:
    settings = {"family": family, "budget": 0.0, "min_time": 0, **settings}
    return Plan(picture or sample_picture("Leaves"), size, steps, 0.0, PreviewSettings(**settings))


def replays_of(folder) -> Replays:
    return Replays(lambda name: load_codec(name, models_dir=folder))


def run(plan: Plan, folder) -> list:
    return list(replays_of(folder).run(plan, int))


def test_every_step_shows_a_frame_and_the_last_one_the_finished_picture(random_weights):
    seen = run(plan_of(), random_weights)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6, 6]
    assert [progress.frame.step for progress in seen[:-1]] == [1, 2, 3, 4, 5, 6]
    last = seen[-1]
    assert not any(progress.timings for progress in seen[:-1])
    assert last.frame.image.size == last.frame.full_size == (32, 32)
    codec = load_codec("taesd", models_dir=random_weights)
    wanted = codec.decode(codec.encode(picture_to_image(fitted(sample_picture("Leaves"), 32))))
    assert last.frame.image.picture.tobytes() == (wanted * 255 + 0.5).byte()[0].permute(1, 2, 0).numpy().tobytes()
    assert [what for what, _ in last.timings] == ["Previews", "One preview", "All previews", "Final decode"]
    assert last.note == ""


@pytest.mark.parametrize("family", ["taesd", "taesd3", "taef2"])
def test_without_weights_the_linear_preview_runs(no_weights, family, monkeypatch):
    picture = fitted(sample_picture("Lake"), 96)
    seen = run(plan_of(family, picture=picture, size=96), no_weights)
    assert seen[-1].frame.detail == LINEAR
    assert seen[-1].note
    shown = seen[-1].frame.image.picture.resize((3, 3), Image.BOX)
    wanted = picture.resize((3, 3), Image.BOX)
    worst = max(abs(a - b) for a, b in zip(shown.tobytes(), wanted.tobytes(), strict=True))
    assert worst < 24, "the preview has the picture's colours in their places"
    monkeypatch.delitem(LATENT_RGB, native_format(family).rgb)
    with pytest.raises(NoWeights):
        run(plan_of(family), no_weights)


def test_without_files_the_embedded_codec_encodes_and_shows_the_picture(no_weights, monkeypatch):
    monkeypatch.setattr(embedded, "DATA", DATA)
    last = run(plan_of("taesd", size=96, steps=2), no_weights)[-1]
    assert last.frame.detail == "full"
    assert last.frame.family == "taesd (embedded)"
    assert last.note == ""


@pytest.mark.parametrize("size", [(50, 97), (97, 50), (8, 300), (301, 33)])
def test_any_shape_of_picture_comes_back_whole(random_weights, size):
    picture = sample_picture("Leaves").resize(size)
    last = run(plan_of(picture=picture, size=72, steps=2), random_weights)[-1]
    assert last.frame.full_size == fitted(picture, 72).size
    assert max(last.frame.full_size) == 72


def test_pictures_of_every_mode_are_taken():
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "I;16", "1"):
        assert fitted(Image.new(mode, (20, 10)), 40).mode == "RGB"


def test_the_previews_and_the_latent_are_kept_and_the_random_state_left_alone(random_weights):
    kept, state = replays_of(random_weights), torch.get_rng_state()
    list(kept.run(plan_of(steps=4), int))
    assert torch.equal(torch.get_rng_state(), state)
    (job,) = kept.history.jobs()
    assert [frame.step for frame in job.frames] == [1, 2, 3, 4]
    (latent,) = kept.history.finished()
    codec = load_codec("taesd", models_dir=random_weights)
    assert torch.equal(latent.latent, codec.encode(picture_to_image(fitted(sample_picture("Leaves"), 32))))
    assert kept.session.stats.frames == 4


def test_samples_are_small_files_with_something_to_see():
    assert len(sample_names()) >= 3
    for name in sample_names():
        picture = sample_picture(name)
        assert (picture.mode, picture.size) == ("RGB", (512, 512))
        assert len(picture.getcolors(2**18)) > 1000


def smooth_latent(height: int = 24, width: int = 32) -> torch.Tensor:
    rows = torch.linspace(0, 6, height)[:, None]
    columns = torch.linspace(0, 9, width)[None, :]
    return torch.stack([torch.sin(rows + shift) * torch.cos(columns * 0.7) * 2 for shift in range(4)])[None]


def test_noise_falls_from_the_models_largest_to_its_smallest():
    levels = noise_levels(12)
    assert (levels[0], levels[-1]) == pytest.approx((14.6146, 0.0292))
    assert levels == sorted(levels, reverse=True)
    assert noise_levels(1) == pytest.approx([14.6146])


@pytest.mark.parametrize("shape", [(24, 32), (17, 9), (8, 8)])
def test_the_last_prediction_is_the_latent_and_each_is_nearer_than_early_ones(shape):
    latent = smooth_latent(*shape)
    errors = [float((predicted - latent).square().mean()) for predicted in replay(latent, 16)]
    assert torch.equal(latent, smooth_latent(*shape))
    assert errors[-1] < 1e-3 * float(latent.square().mean())
    assert errors[0] > errors[8] > errors[-1]
