"""Pictures that share one dictionary of generation parameters: each says what made it, and not what made another."""

import copy
import threading

import pytest
import torch

from taesd_ext.settings import INFOTEXT_FIRST_VAE, INFOTEXT_MODEL, INFOTEXT_VAE

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
    mine.override_settings = {DECODE: "Full", ENCODE: "Full", **overrides}
    host.processing.process_images(mine)
    return dict(mine.extra_generation_params)


BOTH_TINY = {DECODE: "TAESD", ENCODE: "TAESD"}


@pytest.mark.parametrize(
    ("given", "first", "second", "expected"),
    [
        ({}, {DECODE: "TAESD"}, {}, {}),
        ({"enable_hr": True}, BOTH_TINY, {ENCODE: "TAESD"}, {ENCODER: "TAESD", INFOTEXT_MODEL: "taesd encoder"}),
        ({"enable_hr": True}, BOTH_TINY, {}, {}),
        ({"init_image": torch.rand(1, 3, 16, 16)}, BOTH_TINY, {DECODE: "TAESD"},
         {DECODER: "TAESD", INFOTEXT_MODEL: "taesd decoder"}),
        ({}, {DECODE: "TAESD"}, {DECODE: "TAESD", "taesd_ext_family": "built-in TAESD"}, {DECODER: "TAESD"}),
        ({"extra_generation_params": {INFOTEXT_VAE: "kl-f8-anime2 (df3c506e51)"}}, {}, {}, {}),
    ],
    ids=["decode", "hires encode", "hires", "img2img decode", "built-in", "chosen VAE"],
)  # fmt: skip
def test_a_picture_says_what_made_it_and_not_what_made_the_one_before(host, p, given, first, second, expected):
    vars(p).update(given)
    for _ in range(2):
        made = cell(host, p, **first)
        assert (INFOTEXT_MODEL in made) is bool(first)
        made = cell(host, p, **second)
        assert made.keys() == expected.keys()
        assert all(str(made[key]).startswith(value) for key, value in expected.items())


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
        seen.append(running.extra_generation_params.get(INFOTEXT_FIRST_VAE))
        host.state.interrupted = len(seen) == p.steps + 1

    p.on_step = on_step
    made = cell(host, p, **{DECODE: "TAESD"})
    assert seen[-1] == "TAESD"
    assert made == {INFOTEXT_FIRST_VAE: "TAESD"}


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
    assert INFOTEXT_MODEL in cell(host, p, **{DECODE: "TAESD"})
