"""Live previews as a poller of the host sees them."""

import io
import threading
from types import SimpleNamespace

import pytest
import torch
from PIL import Image


def test_a_frame_for_each_step_and_only_when_somebody_polls(host, extension):
    frames = host.polled()
    assert [frame.size for frame in frames] == [(16, 16)] * 4
    assert len(set(map(id, frames))) == 4
    assert host.state.id_live_preview == 4
    assert not extension.previews.session.active
    host.generate()
    assert host.state.id_live_preview == 0
    assert extension.previews.session.stats.frames == 0


def test_many_pollers_get_one_frame(host):
    decodes = []

    def on_step(p, step):
        threads = [threading.Thread(target=host.state.set_current_image) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        decodes.append(host.state.id_live_preview)

    host.generate(on_step=on_step)
    assert decodes == [1, 2, 3, 4]


def test_a_batch_is_a_grid(host):
    assert host.polled(batch=4)[-1].size == (32, 32)
    host.opts.show_progress_grid = False
    assert host.polled(batch=4)[-1].size == (16, 16)


@pytest.mark.parametrize(
    ("options", "side", "grey"),
    [({"show_progress_type": "Approx cheap"}, 2, None), ({"taesd_ext_family": "built-in TAESD"}, 16, 159)],
)
def test_the_hosts_other_methods_stay_the_hosts(host, options, side, grey):
    host.opts.data.update(options, show_progress_every_n_steps=0)
    frames = host.polled()
    assert frames[-1].size == (side, side)
    assert grey is None or frames[-1].getpixel((0, 0)) == (grey, grey, grey)


def test_previews_switched_off_in_the_host_are_off(host):
    host.opts.live_previews_enable = False
    assert host.polled() == [None] * 4
    host.opts.live_previews_enable = True
    host.opts.show_progress_every_n_steps = -1
    assert host.polled() == [None] * 4
    assert host.state.id_live_preview == 1, "one after the batch, made by the host's own function"
    assert host.state.current_image.size == (16, 16)


def test_the_period_of_the_host_counts_where_ours_is_zero(host):
    host.opts.taesd_ext_interval = 0
    host.opts.show_progress_every_n_steps = 2
    host.polled(steps=6)
    assert host.state.id_live_preview == 3


@pytest.mark.parametrize(
    ("host_format", "ours", "expected"),
    [("png", "auto", "PNG"), ("webp", "auto", "WEBP"), ("jpeg", "png", "JPEG"), ("png", "jpeg", "JPEG")],
)
def test_the_hosts_frame_format_comes_first_where_the_user_set_it(host, host_format, ours, expected):
    host.opts.live_previews_image_format = host_format
    host.opts.taesd_ext_frame_format = ours
    host.polled()
    assert Image.open(io.BytesIO(host.progress.progressapi())).format == expected


def test_the_family_follows_the_model_within_a_generation(host, extension):
    families = []

    def on_step(p, step):
        if step == 2:
            host.load_model(is_sdxl=True)
            extension.preload()  # as after model_loaded, when it is done
        host.state.set_current_image()
        families.append(extension.previews.session.frame.family)

    host.generate(on_step=on_step)
    assert families == ["taesd", "taesd", "taesdxl", "taesdxl"]


def test_settings_changed_while_a_job_runs_act_at_once(host, extension):
    details = []

    def on_step(p, step):
        host.opts.taesd_ext_max_side = 8 if step else 0
        host.state.set_current_image()
        details.append(host.state.current_image.size)

    host.generate(on_step=on_step)
    assert details == [(16, 16), (8, 8), (8, 8), (8, 8)]


def test_hires_fix_is_shown_in_both_passes(host):
    """At one size for all who read the state; pages get the bytes of each as it is."""
    for steps in (4, 1):
        frames = host.polled(enable_hr=True, steps=steps)
        assert [frame.size for frame in frames] == [(32, 32)] * 2 * steps
        assert {frame._image.size for frame in frames} == {(16, 16), (32, 32)}
    assert {frame.size for frame in host.polled(enable_hr=True, side=24, batch=3)} == {(96, 96)}


class Broken:
    def __init__(self, failure):
        self.failure = failure

    def __call__(self, latent, **kwargs):
        if isinstance(self.failure, Exception):
            raise self.failure
        return torch.full((len(latent), 3, latent.shape[2] * 8, latent.shape[3] * 8), self.failure)


@pytest.mark.parametrize("failure", [RuntimeError("boom"), torch.cuda.OutOfMemoryError("memory"), float("nan")])
@pytest.mark.parametrize("lowvram", [False, True])
def test_a_broken_decoder_never_stops_a_generation(host, extension, monkeypatch, failure, lowvram):
    host.opts.show_progress_every_n_steps = 1
    host.shared.parallel_processing_allowed = not lowvram
    monkeypatch.setattr("taesd_ext.codec.codec.Codec.decode", lambda self, latent, **k: Broken(failure)(latent))
    frames = []
    _, images = host.generate(on_step=lambda p, step: frames.append(host.poll()))
    assert images.unique().tolist() == [1.0]
    assert [frame and frame.size for frame in frames] == [*[None] * lowvram, *[(16, 16)] * (4 - lowvram)]
    assert extension.previews.session.frame.detail == "embedded"
    assert extension.previews.session.last_error
    assert host.state.exceptions == []


def test_without_weights_the_embedded_previewer_and_no_download(host, extension):
    host.remove_weights()
    frames = host.polled()
    assert [frame.size for frame in frames] == [(16, 16)] * 4
    assert extension.previews.session.frame.detail == "embedded"
    assert extension.previews.session.last_error is None  # it is no fault
    assert host.state.exceptions == []


def test_nothing_is_loaded_in_the_sampling_thread(host, extension, monkeypatch):
    loads = []
    load = extension.registry._load

    def watched(family, **kwargs):
        loads.append((family, host.state.sampling_steps))
        return load(family, **kwargs)

    extension.registry._load = watched

    def on_step(p, step):
        host.load_model(is_sdxl=True)
        host.state.set_current_image()

    host.generate(on_step=on_step)
    assert loads == [("taesd", 0)]
    assert extension.previews.session.frame.detail == "embedded"


def test_nobody_loads_the_hosts_model(host):
    """Reading shared.sd_model loads one in the real host."""
    host.sd_models.model_data.sd_model = None
    host.state.current_latent = torch.zeros(1, 4, 2, 2)
    host.state.set_current_image()
    assert host.state.exceptions == []


def test_previews_change_neither_the_picture_nor_the_random_state(host):
    pictures, states = [], []
    for poll in (False, True):
        torch.manual_seed(5)
        p, images = host.generate(steps=50, on_step=(lambda p, step: host.poll()) if poll else None)
        pictures.append((p.latents[-1], images))
        states.append(torch.get_rng_state())
    assert torch.equal(pictures[0][0], pictures[1][0])
    assert torch.equal(pictures[0][1], pictures[1][1])
    assert torch.equal(*states)


def progressapi(host, req):
    """The host's own function of this name: it asks for a new picture even for whoever wants none."""
    host.state.set_current_image()
    return host.state.id_live_preview


def test_who_skips_the_image_costs_no_decode(host):
    seen = []

    def on_step(p, step):
        skips = SimpleNamespace(skip_current_image=step % 2 == 0)
        seen.append(progressapi(host, skips))

    host.generate(on_step=on_step)
    assert seen == [0, 1, 1, 2]


LATENT = torch.zeros(1, 4, 2, 2)


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        *((what, None) for what in ("not a tensor", 7, torch.zeros(2), torch.zeros(0, 4, 2, 2), LATENT)),
        *((LATENT, broken) for broken in ("evidence", "option", "job")),
    ],
)
def test_a_poll_never_raises(host, extension, monkeypatch, what, broken):
    def on_step(p, step):
        host.state.current_latent = what
        with monkeypatch.context() as patch:
            if broken:
                patch.setattr(type(extension.host), broken, Broken(RuntimeError("boom")))
            host.state.set_current_image()
            polled.append(step)

    polled = []
    host.generate(on_step=on_step)
    assert len(polled) == 4


def test_a_job_that_broke_off_does_not_swallow_the_next(host, extension):
    """Neither of the two runs scripts: nobody tells us where one ends and the other begins."""

    def job(on_step):
        host.processing.process_images(host.processing.Processing(on_step=on_step))

    def breaks(p, step):
        host.state.set_current_image()
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError):
        job(breaks)
    assert extension.previews.session.stats.frames == 1
    assert not extension.previews.active
    job(lambda p, step: host.state.set_current_image())
    assert extension.previews.session.stats.frames == 4


def test_a_checkpoint_that_loads_does_not_wait_for_us(host, extension, monkeypatch):
    going, may_go = threading.Event(), threading.Event()
    monkeypatch.setattr(extension, "preload", lambda: going.set() or may_go.wait(120))
    host.script_callbacks.call("model_loaded", host.model)
    assert going.wait(120)
    assert not may_go.is_set()
    may_go.set()
