"""In and out of the host, in every order."""

import functools
import sys
import threading

import pytest

from taesd_ext.codec.codec import Source
from taesd_ext.host import register as register_module
from taesd_ext.host.register import register, unregister
from taesd_ext.settings import OPTIONS


def test_identity_patched_identity_twice(bare_host):
    before = bare_host.seams()
    for _ in range(2):
        bare_host.load_scripts()
        patched = bare_host.seams()
        assert all(patched[name] is not before[name] for name in before)
        unregister()
        assert bare_host.seams() == before
        bare_host.script_callbacks.callbacks.clear()


def test_reload_ui_three_times_leaves_one_wrap_and_one_set_of_options(host):
    for _ in range(3):
        host.reload_ui()
    for callbacks in host.script_callbacks.callbacks.values():
        assert len(callbacks) == 1
    assert sorted(key for key in host.opts.data_labels if key.startswith("taesd_ext_")) == sorted(
        option.key for option in OPTIONS
    )
    calls = []
    original = register_module._extension.hooks.patches[0]._original
    host.opts.sd_vae_decode_method = "Full"
    host.model.decode_first_stage = lambda sample: calls.append(1) or sample.new_ones(1, 3, 8, 8)
    host.generate()
    assert len(calls) == 1
    unregister()
    assert host.sd_samplers_common.samples_to_images_tensor is original


def test_script_bodies_executed_again_do_not_wrap_twice(host):
    before = host.seams()
    host.run_entry()
    host.script_callbacks.call("before_ui")
    assert host.seams() == before
    assert len(host.script_callbacks.callbacks["cfg_after_cfg"]) == 1
    _, images = host.generate()
    assert images.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("before", [True, False])
def test_another_extension_wraps_the_same_functions_before_or_after_us(bare_host, before):
    """It is called as often as without us, and goes on to work when we are reloaded or gone."""
    seen = []

    def wrap(owner, name):
        below = getattr(owner, name)

        @functools.wraps(below)
        def theirs(*args, **kwargs):
            seen.append(name)
            return below(*args, **kwargs)

        setattr(owner, name, theirs)

    def wrap_all():
        wrap(bare_host.sd_samplers_common, "samples_to_images_tensor")
        wrap(bare_host.state_class, "set_current_image")

    if before:
        wrap_all()
    bare_host.load_scripts()
    if not before:
        wrap_all()
    bare_host.opts.show_progress_type = "TAESD"
    bare_host.opts.taesd_ext_budget = bare_host.opts.taesd_ext_min_time = 0
    for reloads in range(3):
        seen.clear()
        assert [frame.size for frame in bare_host.polled()] == [(16, 16)] * 4
        assert seen.count("samples_to_images_tensor") == 1, "the finished picture"
        # A frame of ours asks nobody below us; after a reload we are on top.
        assert seen.count("set_current_image") == (0 if before or reloads else 4)
        bare_host.reload_ui()
    unregister()
    bare_host.script_callbacks.callbacks.clear()
    seen.clear()
    bare_host.opts.show_progress_type = "Approx cheap"
    bare_host.opts.show_progress_every_n_steps = 0
    p = bare_host.processing.Processing(on_step=lambda p, step: bare_host.poll())
    bare_host.processing.process_images(p)
    assert seen.count("set_current_image") == 4


def test_unloaded_it_leaves_no_thread_and_no_codec(host, extension):
    class Untaught:
        name, has_decoder, details = "taesd", True, ("full",)
        source = Source(decoder="own.pth")

    extension.learning.want(Untaught())
    assert any(thread.name.startswith("taesd-ext") for thread in threading.enumerate())
    host.generate(on_step=lambda p, step: host.state.set_current_image())
    assert extension.registry._codecs
    unregister()
    assert not any(thread.name.startswith("taesd-ext") for thread in threading.enumerate())
    assert not extension.registry._codecs
    assert extension.generations.current is None


def test_after_an_update_reload_ui_runs_the_new_code(host, monkeypatch):
    import taesd_ext

    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "taesd_ext"}
    monkeypatch.setattr(taesd_ext, "loaded_from", {"another file": 0})
    try:
        host.reload_ui()
        new = sys.modules["taesd_ext.host.register"]
        assert new is not before["taesd_ext.host.register"]
        assert not any(sys.modules.get(name) is module for name, module in before.items())
        assert isinstance(new.register(), new.Extension)
        assert before["taesd_ext.host.register"]._extension is None
        loaded = sys.modules["taesd_ext"]
        host.reload_ui()
        assert sys.modules["taesd_ext"] is loaded, "nothing changed since"
        new.unregister()
    finally:
        sys.modules.update(before)


def test_a_host_without_the_seams_is_left_alone(bare_host, caplog):
    del bare_host.sd_samplers_common.samples_to_images_tensor
    del bare_host.state_class.assign_current_image
    bare_host.load_scripts()
    assert register().host.supports == {"encode", "options"}
    assert "no preview hook" in caplog.text
    unregister()


def test_outside_a_webui_it_stays_off(bare_host, monkeypatch, caplog):
    for name in [name for name in sys.modules if name.split(".")[0] == "modules"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "fake_webui" not in path])
    assert register() is None
    assert "There is no WebUI here" in caplog.text


def test_values_set_by_the_user_survive_a_reload(host):
    host.opts.taesd_ext_interval = 7
    host.reload_ui()
    assert host.opts.taesd_ext_interval == 7
    assert register().previews.settings.interval == 7


def test_no_tab_takes_the_place_of_a_running_jobs_decoder(host, extension):
    kept = list(extension.registry._codecs)
    assert extension.actions().codecs.load("taesd").family == "taesd"
    assert list(extension.registry._codecs) == kept
