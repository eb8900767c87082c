"""Live previews as a poller of the host sees them."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError


def polling(host, frames):
    """A poll after each step, as a page or an API client makes it."""

    def on_step(p, step):
        thread = threading.Thread(target=host.state.set_current_image)
        thread.start()
        thread.join()
        frames.append(host.state.current_image)

    return on_step


def test_a_frame_for_each_step_and_only_when_somebody_polls(host, extension):
    frames = []
    host.generate(on_step=polling(host, frames))
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
    frames = []
    host.generate(batch=4, on_step=polling(host, frames))
    assert frames[-1].size == (32, 32)
    host.opts.show_progress_grid = False
    host.generate(batch=4, on_step=polling(host, frames))
    assert frames[-1].size == (16, 16)


@pytest.mark.parametrize(
    ("options", "side", "grey"),
    [({"show_progress_type": "Approx cheap"}, 2, None), ({"taesd_ext_family": "built-in TAESD"}, 16, 159)],
)
def test_the_hosts_other_methods_stay_the_hosts(host, options, side, grey):
    host.opts.data.update(options, show_progress_every_n_steps=0)
    frames = []
    host.generate(on_step=polling(host, frames))
    assert frames[-1].size == (side, side)
    assert grey is None or frames[-1].getpixel((0, 0)) == (grey, grey, grey)


def test_previews_switched_off_in_the_host_are_off(host):
    frames = []
    host.opts.live_previews_enable = False
    host.generate(on_step=polling(host, frames))
    host.opts.live_previews_enable = True
    host.opts.show_progress_every_n_steps = -1
    host.generate(on_step=polling(host, frames))
    assert frames == [None] * 8
    assert host.state.id_live_preview == 1, "one after the batch, made by the host's own function"
    assert host.state.current_image.size == (16, 16)


def test_the_period_of_the_host_counts_where_ours_is_zero(host):
    host.opts.taesd_ext_interval = 0
    host.opts.show_progress_every_n_steps = 2
    frames = []
    host.generate(steps=6, on_step=polling(host, frames))
    assert host.state.id_live_preview == 3


@pytest.mark.parametrize(
    ("host_format", "ours", "expected"),
    [("png", "auto", "PNG"), ("webp", "auto", "WEBP"), ("jpeg", "png", "JPEG"), ("png", "jpeg", "JPEG")],
)
def test_the_hosts_frame_format_comes_first_where_the_user_set_it(host, host_format, ours, expected):
    host.opts.live_previews_image_format = host_format
    host.opts.taesd_ext_frame_format = ours
    host.generate(on_step=polling(host, []))
    assert Image.open(io.BytesIO(host.progress.progressapi())).format == expected


@pytest.mark.parametrize("detail", ["1/8", "1/4", "full"])
def test_who_reads_the_state_gets_one_size_and_the_format_asked_for(host, detail):
    host.opts.taesd_ext_detail = detail
    frames = []
    host.generate(on_step=polling(host, frames))
    for frame in frames:
        buffer = io.BytesIO()
        frame.save(buffer, format="PNG")
        saved = Image.open(buffer)
        assert (saved.format, saved.size, frame.size) == ("PNG", (16, 16), (16, 16))


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
        frames = []
        host.generate(enable_hr=True, steps=steps, on_step=polling(host, frames))
        assert [frame.size for frame in frames] == [(32, 32)] * 2 * steps
        assert {frame._image.size for frame in frames} == {(16, 16), (32, 32)}
    frames = []
    host.generate(enable_hr=True, side=24, batch=3, on_step=polling(host, frames))
    assert {frame.size for frame in frames} == {(96, 96)}


def test_short_of_memory_previews_are_drawn_between_steps_and_only_if_somebody_polls(host, extension, monkeypatch):
    """The sampler's own peak leaves no room for a decode beside it."""
    drawn_in = []
    session = type(extension.previews.session)
    poll = session.poll
    monkeypatch.setattr(session, "poll", lambda *a, **k: (drawn_in.append(threading.get_ident()), poll(*a, **k))[1])
    host.shared.parallel_processing_allowed = False
    host.opts.show_progress_every_n_steps = 1
    host.generate()
    assert host.state.id_live_preview == 0
    assert extension.previews.session.stats.frames == 0
    frames = []
    host.generate(batch=4, on_step=polling(host, frames))
    assert [frame and frame.size for frame in frames] == [None, *[(32, 32)] * 3]
    assert set(drawn_in) == {threading.get_ident()}
    assert extension.previews.session.settings.detail == "1/4"
    host.opts.show_progress_type = "Approx cheap"
    host.generate()
    assert host.state.id_live_preview == 4
    assert host.state.current_image.size == (2, 2)


UNET_MB, EMBEDDED_MB = 3000, 13
PREVIEW_MB = {"full": 429, "1/2": 200, "1/4": 72, "1/8": 17}
"""As docs/numbers.md has them for 1024 px."""


class Meter:
    """A card's memory while a UNet computes and somebody polls: what both hold at most, in megabytes."""

    def __init__(self, host, monkeypatch):
        self.held = self.peak = 0
        self.details = []
        callbacks = host.script_callbacks.callbacks
        callbacks["cfg_denoiser"].append(lambda params: self.compute(host))
        callbacks["cfg_after_cfg"].insert(0, lambda params: setattr(self, "held", 0))  # its activations are gone
        decode = Codec.decode
        monkeypatch.setattr(Codec, "decode", lambda codec, latent, **k: (self.take(k), decode(codec, latent, **k))[1])

    def compute(self, host):
        self.held = UNET_MB
        self.peak = max(self.peak, self.held)
        page = threading.Thread(target=host.state.set_current_image)
        page.start()
        page.join()

    def take(self, options):
        self.details.append(options.get("detail", "full"))
        self.peak = max(self.peak, self.held + PREVIEW_MB[self.details[-1]])


@pytest.mark.parametrize("is_short", [True, False])
def test_the_peak_of_a_unet_and_its_previews_where_memory_is_short(host, monkeypatch, is_short):
    host.shared.parallel_processing_allowed = not is_short
    host.opts.show_progress_every_n_steps = 1
    host.opts.sd_vae_decode_method = "Full"
    meter = Meter(host, monkeypatch)
    host.generate()
    assert meter.details
    beyond = meter.peak - max(UNET_MB, *(PREVIEW_MB[detail] for detail in meter.details))
    assert (beyond <= EMBEDDED_MB) == is_short


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
    _, images = host.generate(on_step=polling(host, frames))
    assert images.unique().tolist() == [1.0]
    assert [frame and frame.size for frame in frames] == [*[None] * lowvram, *[(16, 16)] * (4 - lowvram)]
    assert extension.previews.session.frame.detail == "embedded"
    assert extension.previews.session.last_error
    assert host.state.exceptions == []


def test_without_weights_the_embedded_previewer_and_no_download(host, extension):
    for path in host.folder.iterdir():
        path.unlink()
    frames = []
    host.generate(on_step=polling(host, frames))
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


def test_the_hosts_preview_functions_never_fail(host, extension):
    for channels in (4, 7):
        image = host.sd_samplers_common.sample_to_image(torch.zeros(1, channels, 2, 2))
        assert image.size in ((16, 16), (2, 2))


def test_previews_change_neither_the_picture_nor_the_random_state(host):
    pictures, states = [], []
    for poll in (False, True):
        torch.manual_seed(5)
        p, images = host.generate(steps=50, on_step=polling(host, []) if poll else None)
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


@pytest.mark.parametrize("what", ["not a tensor", 7, torch.zeros(2), torch.zeros(0, 4, 2, 2), torch.zeros(1, 4, 2, 2)])
@pytest.mark.parametrize("broken", [None, "evidence", "option", "job"])
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


def test_previews_of_a_model_that_we_do_not_know_are_the_hosts(host, extension):
    host.load_model(channels=7)
    host.opts.show_progress_every_n_steps = 0
    frames = []
    host.generate(on_step=polling(host, frames))
    assert {frame.getpixel((0, 0)) for frame in frames} == {(159, 159, 159)}, "its built-in TAESD's"
    assert extension.previews.session.stats.frames == 0


def test_a_checkpoint_that_loads_does_not_wait_for_us(host, extension, monkeypatch):
    going, may_go = threading.Event(), threading.Event()
    monkeypatch.setattr(extension, "preload", lambda: going.set() or may_go.wait(120))
    host.script_callbacks.call("model_loaded", host.model)
    assert going.wait(120)
    assert not may_go.is_set()
    may_go.set()


def test_a_model_that_is_being_torn_down_is_unknown(host, extension):
    class TornDown:
        def __getattribute__(self, name):
            raise TypeError("argument of type 'NoneType' is not iterable")

    host.sd_models.model_data.sd_model = TornDown()
    assert extension.host.detection((1, 16, 2, 2)).format is None
    with pytest.raises(TaesdError, match="no tiny decoder"):
        extension.final.decode(torch.zeros(1, 16, 2, 2))


@pytest.mark.parametrize("frames", [False, True])
def test_a_format_that_only_the_host_knows_is_drawn_by_its_own_factors(host, extension, frames):
    factors = torch.rand(48, 3)
    known = {"latent_rgb_factors": factors.tolist(), "latent_rgb_factors_bias": [0.1, 0.2, 0.3]}
    host.load_model(channels=48)
    host.model.model_config = SimpleNamespace(latent_format=type("Invented", (), known)())
    extension.previews.begin(20)
    host.state.current_latent = 0.01 * torch.randn(1, 48, *[1] * frames, 2, 3)
    extension.previews.step_done(1, 20)
    host.state.set_current_image()
    drawn = np.asarray(extension.previews.session.frame.image.picture) / 255
    latent = host.state.current_latent.reshape(48, 2, 3)
    expected = torch.einsum("chw,cr->hwr", latent, factors) + torch.tensor([0.1, 0.2, 0.3])
    assert drawn == pytest.approx(((expected + 1) / 2).clamp(0, 1).numpy(), abs=1 / 255)


def test_pixels_that_the_sampler_holds_are_shown_as_they_are(host, extension):
    identity = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    host.load_model(channels=3)
    host.model.model_config = SimpleNamespace(latent_format=type("RGB", (), {"latent_rgb_factors": identity})())
    extension.previews.begin(20)
    host.state.current_latent = torch.rand(1, 3, 32, 24) * 2 - 1
    extension.previews.step_done(1, 20)
    host.state.set_current_image()
    assert host.state.current_image.size == (24, 32)
    shown = np.asarray(host.state.current_image) / 255
    assert shown == pytest.approx((host.state.current_latent[0].permute(1, 2, 0).numpy() + 1) / 2, abs=1 / 255)
