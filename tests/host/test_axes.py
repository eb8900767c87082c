import copy
import importlib
from types import SimpleNamespace

import pytest
import torch

from taesd_ext.errors import TaesdError
from taesd_ext.host import preview_step
from taesd_ext.host.axes import AXES
from taesd_ext.settings import FINAL_VAES, OPTION


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
    assert [axis.label for axis in plot.axis_options] == [
        "Steps", *(label for label, _, _ in AXES), *(f"[TAESD] {OPTION[name].label}" for name in FINAL_VAES),
        preview_step.LABEL,
    ]  # fmt: skip
    for axis, (_, key, choices) in zip(plot.axis_options[1:], AXES, strict=False):
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
    rows = [(key, choices) for _, key, choices in AXES]
    rows += [(OPTION[name].key, OPTION[name].choices) for name in FINAL_VAES]
    for axis, (key, choices) in zip(plot.axis_options[1:-1], rows, strict=True):
        p = host.processing.Processing(scripts=[host.script])
        p.override_settings = {}
        typed = [choice.swapcase() for choice in choices]
        axis.confirm(p, typed)
        for value, choice in zip(typed, choices, strict=True):
            axis.apply(p, value, typed)
            assert p.override_settings[key] == choice
        with pytest.raises(RuntimeError, match="taesdx"):
            axis.confirm(p, [choices[0], "taesdx"])


@pytest.mark.parametrize("batch", [1, 2])
def test_moments_of_one_sampling_run_are_the_pictures_of_an_axis(host, plot, batch):
    host.script_callbacks.call("before_ui")
    axis = plot.axis_options[-1]
    sampled = []
    p = host.processing.Processing(
        scripts=[host.script], batch=batch, on_step=lambda p, step: sampled.append(host.state.current_latent.clone())
    )

    def cell(step: int, steps: int = 4):
        mine = copy.copy(p)
        mine.steps, mine.extra_generation_params = steps, {}
        axis.confirm(mine, [step])
        axis.apply(mine, step, None)
        host.processing._process_images(mine)
        return mine

    host.state.begin()
    for step in (2, 4, 1):
        made = cell(step)
        assert torch.equal(made.latents[-1], sampled[step - 1].half().float())
        assert made.extra_generation_params["Preview step"] == f"{step}/4"
    assert len(sampled) == 4, "sampled once"
    cell(2, steps=3)
    assert len(sampled) == 7, "another run"
    with pytest.raises(TaesdError):
        cell(9)
    with pytest.raises(RuntimeError):
        axis.confirm(p, [0])
    host.state.begin()
    cell(2)
    assert len(sampled) == 11, "another job of the host"
