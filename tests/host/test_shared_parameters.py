"""Pictures that share one dictionary of generation parameters: each says what made it, and not what made another."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

from taesd_ext.settings import INFOTEXT_MODEL, INFOTEXT_VAE

DECODER, ENCODER = "VAE Decoder", "VAE Encoder"
DECODE, ENCODE = "sd_vae_decode_method", "sd_vae_encode_method"


@pytest.fixture
def p(host):
    """Each method has a value, so that the host restores it after an override."""
    host.opts.data.update({DECODE: "Full", ENCODE: "Full"})
    return host.processing.Processing(scripts=[host.script])


def cell(host, p, **overrides: str) -> dict[str, str]:
    """The parameters of one picture of X/Y/Z plot, which copies its object for each."""
    mine = copy.copy(p)
    mine.override_settings.update(overrides)
    host.processing.process_images(mine)
    return dict(mine.extra_generation_params)


@pytest.mark.parametrize("hires", [False, True])
def test_a_full_decode_after_one_by_taesd(host, p, hires):
    p.enable_hr = hires
    for _ in range(2):
        tiny = cell(host, p, **{DECODE: "TAESD"})
        assert tiny[DECODER] == "TAESD"
        assert tiny[INFOTEXT_MODEL].startswith("taesd decoder")
        assert cell(host, p, **{DECODE: "Full"}) == {}


def test_a_full_encode_after_one_by_taesd(host, p):
    p.init_image = torch.rand(1, 3, 16, 16)
    tiny = cell(host, p, **{ENCODE: "TAESD", DECODE: "TAESD"})
    assert (tiny[ENCODER], tiny[INFOTEXT_MODEL].count(" + ")) == ("TAESD", 1)
    decoded = cell(host, p, **{ENCODE: "Full"})
    assert ENCODER not in decoded
    assert decoded[INFOTEXT_MODEL] in tiny[INFOTEXT_MODEL].split(" + ")
    assert cell(host, p, **{DECODE: "Full"}) == {}


def test_the_hosts_own_taesd_after_ours(host, p):
    assert INFOTEXT_MODEL in cell(host, p, **{DECODE: "TAESD"})
    assert cell(host, p, taesd_ext_family="built-in TAESD") == {DECODER: "TAESD"}


def test_a_picture_without_an_encode_after_one_with(host, p):
    tiny = cell(host, p, **{ENCODE: "TAESD"})
    p.enable_hr = True
    assert cell(host, p)[ENCODER] == "TAESD"
    p.enable_hr = False
    assert tiny == cell(host, p) == {}


def test_a_full_decode_after_one_by_a_chosen_vae(host, p):
    p.extra_generation_params[INFOTEXT_VAE] = "kl-f8-anime2 (df3c506e51)"
    assert cell(host, p) == {}


@pytest.mark.parametrize("method", ["Full", "Approx NN"])
@pytest.mark.parametrize("noted", [False, True])
def test_what_the_host_writes_is_left_as_the_host_has_it(host, p, method, noted):
    """Its own leftovers too: it never takes out a method's name again."""
    theirs = {"Hires upscale": 2, DECODER: "Approx NN", ENCODER: "TAESD"}
    p.extra_generation_params.update(theirs)
    if noted:
        p.extra_generation_params[INFOTEXT_MODEL] = "taesd decoder 12345678"
    assert cell(host, p, **{DECODE: method}) == theirs


def test_a_job_whose_last_picture_is_made_by_the_host_after_all(host, p):
    """Hires fix, and Interrupt in its second pass: the preview's method makes the picture."""
    host.opts.live_preview_fast_interrupt = True
    host.opts.show_progress_type = "Approx NN"
    p.enable_hr = True
    seen = []

    def on_step(running, _step):
        seen.append(running.extra_generation_params.get(INFOTEXT_MODEL))
        host.state.interrupted = len(seen) == p.steps + 1

    p.on_step = on_step
    made = cell(host, p, **{DECODE: "TAESD"})
    assert seen[-1].startswith("taesd decoder")
    assert made == {}


def test_a_look_at_another_decoder_meanwhile_changes_nothing(host, p, extension):
    """Another extension's, in the same thread, and our panel's, in another."""
    latent = torch.zeros(1, 4, 2, 2)

    def full():
        with extension.final.hosts_vae():
            host.sd_samplers_common.samples_to_images_tensor(latent, 0)

    class Looking:
        args = ()

        def __getattr__(self, name):
            return lambda *_, **__: None

        def postprocess(self, running, *_):
            host.sd_samplers_common.samples_to_images_tensor(latent, 0)
            host.opts.sd_vae_decode_method = "Full"
            thread = threading.Thread(target=full)
            thread.start()
            thread.join()

    p.scripts.insert(0, Looking())
    host.opts.sd_vae_decode_method = "TAESD"
    assert INFOTEXT_MODEL in cell(host, p)
