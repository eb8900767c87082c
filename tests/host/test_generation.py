"""The choices of one generation: from the page or the API, for that generation only."""

from dataclasses import dataclass

import gradio as gr
import pytest
import torch

from taesd_ext.host.accordion import ARGUMENTS, AS_SET, build, choices_of, page_of
from taesd_ext.host.generation import Choices, FinalChoices, Generations
from taesd_ext.host.register import register
from taesd_ext.settings import FAIL_TO_FULL_VAE as FULL


def settings_seen(host, extension, *args, **kwargs):
    seen = []
    host.generate(*args, on_step=lambda p, step: seen.append(extension.previews.settings), **kwargs)
    return seen[-1]


def test_choices_hold_for_one_generation_and_leave_the_options_alone(host, extension):
    before = dict(host.opts.data)
    seen = settings_seen(host, extension, True, "taesdxl", 3, "1/4")
    assert (seen.enabled, seen.family, seen.interval, seen.detail) == (True, "taesdxl", 3, "1/4")
    after = extension.previews.settings
    assert (after.family, after.interval, after.detail) == ("Auto", 1, "full")
    assert host.opts.data == before


def test_choices_are_dropped_after_a_generation_that_failed(host, extension):
    def broken(p, step):
        raise RuntimeError("sampler")

    with pytest.raises(RuntimeError):
        host.generate(False, on_step=broken)
    assert settings_seen(host, extension).enabled
    assert extension.previews.settings.enabled


def test_switched_off_for_one_generation(host, extension):
    polls = []

    def on_step(p, step):
        host.poll()
        polls.append(host.state.id_live_preview)

    host.opts.show_progress_every_n_steps = 1
    for parallel in (True, False):
        host.shared.parallel_processing_allowed = parallel
        for method in ("TAESD", "Approx cheap"):
            host.opts.show_progress_type = method
            host.generate(False, on_step=on_step)
    assert polls == [0] * 16


MINE, ANOTHERS = "my page", "another's page"


def test_a_change_in_the_page_acts_on_the_previews_of_its_own_job(host, extension):
    seen = []

    def on_step(p, step):
        for at, choices, page in (
            (1, Choices(detail="1/8"), ANOTHERS),
            (1, Choices(detail="1/8"), ""),
            (2, Choices(enabled=False, final_vae="TAESD"), MINE),
        ):
            if step == at:
                extension.generations.change(choices, page)
        settings = extension.previews.settings
        seen.append((settings.detail, settings.enabled, extension.final.choices.vae))

    arguments = True, None, None, None, "anime", None, MINE
    host.generate(*arguments, on_step=on_step, override={"taesd_ext_decode_failure": FULL})
    assert seen == [("full", True, "anime")] * 2 + [("full", False, "anime")] * 2


@pytest.mark.parametrize("page", ["", MINE])
@pytest.mark.parametrize(("option", "to"), [("final_vae", "TAESD"), ("family", "taesd3"), ("decode_failure", "error")])
def test_nothing_set_while_a_job_runs_changes_what_makes_its_pictures(host, extension, option, to, page):
    host.opts.taesd_ext_decode_failure = FULL

    def on_step(p, step):
        setattr(host.opts, f"taesd_ext_{option}", to)
        extension.generations.change(Choices(final_vae="TAESD", family="taesd3"), page)
        seen.append(extension.final.choices)

    seen = []
    host.generate(True, None, None, None, None, None, page, on_step=on_step)
    assert seen == [FinalChoices("the WebUI's", "the WebUI's", "Auto", FULL)] * 4
    host.opts.taesd_ext_decode_failure = FULL
    host.generate(on_step=lambda p, step: seen.append(extension.final.choices))
    assert seen[-1] != seen[0] or option == "decode_failure"


def test_a_generation_inside_another():
    """Told apart by identity: the host's processing objects compare by their fields, tensors among them."""

    @dataclass
    class P:
        latent: torch.Tensor

    generations = Generations()
    outer, inner, later = (P(torch.zeros(2)) for _ in range(3))
    generations.begin(outer, Choices(detail="1/4"), job=1)
    generations.begin(inner, Choices(enabled=False), job=1)
    assert not generations.choices.enabled
    generations.end(inner)
    assert generations.choices.detail == "1/4"
    assert generations.current.processing() is outer
    generations.begin(inner, Choices(enabled=False), job=1)
    generations.begin(later, Choices(interval=5), job=2)
    generations.end(later)
    assert generations.current is None
    generations.begin(outer, Choices(), job=3)
    del outer
    generations.begin(inner, Choices(), job=3)
    generations.end(inner)
    assert generations.current is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), Choices()),
        ((None, None, None, None), Choices()),
        ((True, AS_SET, 0, AS_SET), Choices()),
        ((False,), Choices(enabled=False)),
        ((True, "taesd3", 2, "1/8"), Choices(family="taesd3", interval=2, detail="1/8")),
        ((True, "nonsense", -3, 12), Choices()),
        (({"detail": "1/2", "enabled": False},), Choices(enabled=False, detail="1/2")),
        (({"unknown": 1},), Choices()),
        ((True, "Auto", 1.0, "Auto"), Choices(family="Auto", interval=1, detail="Auto")),
    ],
)
def test_arguments_of_page_and_api(arguments, expected):
    assert choices_of(arguments) == expected


@pytest.mark.parametrize("off", [False, 0, 0.0, "false", "False", "0"])
@pytest.mark.parametrize("on", [True, 1, 1.0, "true", "True", None])
def test_switched_on_or_off_as_scripts_write_it(off, on, caplog):
    assert not choices_of([{"enabled": off}]).enabled
    assert not choices_of([off]).enabled
    assert choices_of([{"enabled": on}]).enabled
    assert not [record for record in caplog.records if "enabled" in record.getMessage()]


@pytest.mark.parametrize("value", [2, -1, "off please", [False], {}, float("nan")])
def test_what_is_neither_on_nor_off_is_refused_and_said(value, caplog):
    assert choices_of([{"enabled": value, "interval": 4}]) == Choices(interval=4)
    (said,) = [record.getMessage() for record in caplog.records if "enabled" in record.getMessage()]
    assert "true or false was expected" in said


@pytest.fixture
def controls():
    """As each page has them, and what their changes said."""
    changes = []
    with gr.Blocks() as page:
        made = build(lambda item: f"taesd_{item}", lambda *change: changes.append(change), [])
    functions = getattr(page, "fns", None)
    handlers = functions.values() if isinstance(functions, dict) else functions
    changed = next(handler.fn for handler in handlers if "changed" in str(handler.fn))
    return made, changed, changes


def test_the_controls_stand_in_the_order_of_the_arguments(controls):
    made, _, _ = controls
    assert len(made) == len(ARGUMENTS) + 1
    assert choices_of([control.value for control in made]) == Choices()
    assert page_of([control.value for control in made]) == "", "what the API sends is no page's"
    assert len({control.elem_id for control in made[:-1]}) == len(ARGUMENTS)


def test_pause_holds_for_the_running_job_and_is_no_argument_of_the_next(controls):
    _, changed, changes = controls
    arguments = [True, AS_SET, 0, "1/8", AS_SET, AS_SET, MINE]
    for paused in (True, False):
        changed(paused, *arguments)
    assert changes == [(Choices(enabled=False, detail="1/8"), MINE), (Choices(detail="1/8"), MINE)]
    assert "paused" not in ARGUMENTS


def test_the_script_gives_the_same_controls_each_time(host):
    with gr.Blocks():
        first, second = host.script.ui(False), host.script.ui(False)
    assert [type(control) for control in first] == [type(control) for control in second]
    assert register() is register()


def test_an_override_of_an_option_for_one_generation(host, extension):
    """The host's own mechanism works for our options, and does not leak."""
    seen = settings_seen(host, extension, override={"taesd_ext_interval": 9})
    assert seen.interval == 9
    assert extension.previews.settings.interval == 1
