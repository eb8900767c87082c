"""What pages may ask for again, and that it is bounded."""

from __future__ import annotations

import torch
from events import finished, pressed
from PIL import Image

from taesd_ext.ui import texts
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


def test_no_page_holds_its_results_itself(random_weights):
    """gradio 3.41 keeps every page's states for ever."""
    page = build_page(random_weights)
    compare = pressed(page, "taesd_compare_run").__self__
    _, key, *_ = compare.start(Image.linear_gradient("L"), ["taesd"], "256")
    _, *made = finished(compare, key)
    comparison = made[-1]
    export = pressed(page, "taesd_compare_export")
    gone, _ = export(comparison + 1)
    _, files = export(comparison)

    assert isinstance(comparison, int)
    assert texts.COMPARISON_GONE in gone
    assert len(files["value"]) == 2
    assert not any(isinstance(value, torch.Tensor) for value in made)


def test_a_decode_that_is_gone_is_not_saved(random_weights):
    save = pressed(build_page(random_weights), "taesd_again_save")

    assert texts.DECODED_GONE in save(7)[0]
    assert texts.NOTHING_TO_SAVE in save(None)[0]
