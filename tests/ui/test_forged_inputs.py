"""Every event of the panel with what no page of ours would send, and every event where nothing may be changed."""

import inspect
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from events import events, finished
from PIL import Image

from taesd_ext.codec.embedded import embedded_names
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.ui.actions import HostVAEs
from taesd_ext.ui.panel import build_page

_opened: list[str] = []
_watching = threading.Event()


def _note_opened(event: str, arguments: tuple) -> None:
    if event == "open" and _watching.is_set():
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_opened)


@pytest.fixture
def actions(actions, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    actions.host_vaes = HostVAEs(tmp_path / "VAE", lambda: None, lambda: True)
    return actions


def run_all(page: gr.Blocks, value_of, *, long_work: bool = True) -> list[Any]:
    """Every answer of every event, long work to its end."""
    answers = []
    for function, row in events(page):
        action, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if function is None or (action is not None and (name == "look" or not long_work)):
            continue  # the key of a task, which is followed here
        values = [value_of(page.blocks[number]) for number in row["inputs"]]
        answer = function(*values[: len(inspect.signature(function).parameters)])
        if action is not None and name == "start" and answer[1]:
            answer = finished(action, answer[1])
        answers.append(answer)
    return answers


QUICK = {"taesd_compare_side": "256", "taesd_bench_side": "256", "taesd_film_side": 64}
"""Values of controls that would otherwise ask for much work."""


def plausible(block: Any) -> Any:
    if isinstance(block, gr.Image):
        return Image.linear_gradient("L").resize((64, 64))
    if isinstance(block, (gr.File, gr.State)):
        return None
    if isinstance(block, gr.CheckboxGroup):
        return ["taesd"]
    if block.elem_id in QUICK:
        return QUICK[block.elem_id]
    return getattr(block, "value", None)


def test_no_path_and_no_made_up_choice_gets_through(actions, random_weights, tmp_path):
    outside = tmp_path / "outside" / "taesd_decoder.safetensors"
    outside.parent.mkdir()
    shutil.copy(random_weights / "taesd_decoder.safetensors", outside)
    asked: list[str] = []
    load = actions.codecs.load
    actions.codecs = replace(actions.codecs, load=lambda name: asked.append(name) or load(name))
    forged = {
        gr.Dropdown: str(outside), gr.Radio: str(outside), gr.CheckboxGroup: [str(outside)], gr.State: str(outside),
        gr.Slider: 1e12, gr.Number: float("nan"), gr.Checkbox: "yes",
    }  # fmt: skip

    page = build_page(actions)
    before = dict(actions.read_settings())
    _watching.set()
    try:
        run_all(page, lambda block: forged.get(type(block), plausible(block)))
    finally:
        _watching.clear()
    assert [path for path in _opened if Path(path) == outside] == []
    assert set(asked) <= {*FAMILIES, *embedded_names()}
    assert outside.exists()
    after = dict(actions.read_settings())
    changed = {name for name in before if before[name] != after[name]}
    assert all(name.startswith("final_vae") for name in changed), "names, which hosts check"


def test_a_shared_webui_changes_nothing_and_shows_nobodys_images(actions, weights):
    def refuse(*_given):
        raise AssertionError("something was changed")

    actions.allowed_to_change = lambda: False
    actions.write_setting = actions.save_picture = actions.files_changed = refuse
    actions.host_vaes = HostVAEs(weights / "VAE", refuse, refuse)
    files = sorted(weights.rglob("*"))
    chosen = {"taesd_file": str(weights / "taesd_decoder.safetensors"), "taesd_compare_codecs": []}

    page = build_page(actions)

    def value_of(block: Any) -> Any:
        if isinstance(block, gr.Checkbox):
            return not block.value
        if isinstance(block, gr.State):
            return str(weights / "taesd_decoder.safetensors")
        return chosen.get(block.elem_id, plausible(block))

    answers = str(run_all(page, value_of))
    assert sorted(weights.rglob("*")) == files
    assert "secret" not in answers
    assert "data-frame" not in answers
    locked = {block.elem_id for block in page.blocks.values() if getattr(block, "interactive", None) is False}
    assert {"taesd_download", "taesd_download_all", "taesd_remove", "taesd_own_file", "taesd_option_family"} <= locked


def test_the_same_events_show_them_where_that_is_allowed(actions):
    assert "secret" in str(run_all(build_page(actions), plausible, long_work=False))
