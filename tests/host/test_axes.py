from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from taesd_ext.host.axes import AXES


class AxisOption:
    def __init__(self, label, type, apply, confirm=None, choices=None):
        self.label, self.type, self.apply, self.confirm, self.choices = label, type, apply, confirm, choices


@pytest.fixture
def plot(bare_host):
    """The host's X/Y/Z plot script."""
    module = SimpleNamespace(AxisOption=AxisOption, axis_options=[AxisOption("Steps", int, None)])
    scripts = importlib.import_module("modules.scripts")
    scripts.scripts_data = [
        SimpleNamespace(script_class=type("Script", (), {"__module__": "xyz_grid.py"}), module=module)
    ]
    return module


def test_axes_are_added_once_however_often_scripts_are_loaded(bare_host, plot):
    bare_host.load_scripts()
    bare_host.run_entry()
    bare_host.script_callbacks.call("before_ui")
    assert [axis.label for axis in plot.axis_options] == ["Steps", *(label for label, _, _ in AXES)]
    for axis, (_, key, choices) in zip(plot.axis_options[1:], AXES, strict=True):
        assert axis.choices() == list(choices)
        assert key in bare_host.opts.data_labels


def test_an_axis_sets_its_option_for_one_generation_only(host, plot):
    host.script_callbacks.call("before_ui")
    axis = plot.axis_options[1]
    assert "sd_vae_decode_method" not in host.opts.data
    for value in ("TAESD", "Full"):
        p = host.processing.Processing(scripts=[host.script])
        axis.apply(p, value, None)
        host.processing.process_images(p)
        assert p.extra_generation_params.get("VAE Decoder") == (None if value == "Full" else "TAESD")
        assert host.opts.sd_vae_decode_method == "Full"


def test_typed_values_count_without_regard_to_case_and_unknown_ones_are_refused_beforehand(host, plot):
    host.script_callbacks.call("before_ui")
    for axis, (_, key, choices) in zip(plot.axis_options[1:], AXES, strict=True):
        p = host.processing.Processing(scripts=[host.script])
        p.override_settings = {}
        typed = [choice.swapcase() for choice in choices]
        axis.confirm(p, typed)
        for value, choice in zip(typed, choices, strict=True):
            axis.apply(p, value, typed)
            assert p.override_settings[key] == choice
        with pytest.raises(RuntimeError, match="taesdx"):
            axis.confirm(p, [choices[0], "taesdx"])
