"""Live previews under --medvram and --lowvram."""

import threading

import pytest

from taesd_ext.codec.codec import Codec


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
    frames = host.polled(batch=4)
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
        host.poll()

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
