"""What pages may ask for again, and that it is bounded."""

from __future__ import annotations

import gradio as gr
import torch

from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.playground import build_page


def test_the_oldest_results_go_first():
    kept = KeptResults(limit=100)
    keys = [kept.keep(letter, 40) for letter in "abc"]

    assert len(set(keys)) == 3
    assert [kept.get(key) for key in keys] == [None, "b", "c"]
    assert kept.get(None) is None


def test_the_newest_result_stays_whatever_its_size():
    kept = KeptResults(limit=100)
    small, large = kept.keep("small", 10), kept.keep("large", 1000)

    assert (kept.get(small), kept.get(large)) == (None, "large")


def function_of(page: gr.Blocks, elem_id: str):
    """What a button's press calls."""
    (button,) = (key for key, block in page.blocks.items() if getattr(block, "elem_id", None) == elem_id)
    for place, row in enumerate(page.get_config_file()["dependencies"]):
        targets = [target if isinstance(target, int) else target[0] for target in row["targets"]]
        if button in targets:
            return page.fns[row.get("id", place)].fn
    raise AssertionError(f"{elem_id} has no press")


def test_no_page_holds_its_results_itself(random_weights):
    """gradio 3.41 keeps every page's states for ever."""
    page = build_page(random_weights)
    (*_, made) = function_of(page, "taesd_compare_run")(None, ["taesd"], "256")
    comparison = made[-1]
    gone, _ = function_of(page, "taesd_compare_export")(comparison + 1)
    _, files = function_of(page, "taesd_compare_export")(comparison)

    assert isinstance(comparison, int)
    assert "Compare again" in gone
    assert len(files["value"]) == 2
    assert not any(isinstance(value, torch.Tensor) for value in made)


def test_a_decode_that_is_gone_is_not_saved(random_weights):
    save = function_of(build_page(random_weights), "taesd_again_save")

    assert "Decode it again" in save(7)[0]
    assert "Decode a picture first" in save(None)[0]
