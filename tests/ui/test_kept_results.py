"""What pages may ask for again, and that it is bounded."""

from pathlib import Path

import torch
from events import finished, pressed
from PIL import Image

from taesd_ext.ui import compare_tab, decoded_box
from taesd_ext.ui.kept_results import KeptResults
from taesd_ext.ui.pictures import MOST_OFFERED, offered_file
from taesd_ext.ui.playground import build_page


def test_the_oldest_results_go_first_and_the_newest_stays_whatever_its_size():
    kept = KeptResults(limit=100)
    keys = [kept.keep(letter, 40) for letter in "abc"]
    assert len(set(keys)) == 3
    assert [kept.get(key) for key in (*keys, None)] == [None, "b", "c", None]
    large = kept.keep("large", 1000)
    assert [kept.get(key) for key in (*keys, large)] == [None, None, None, "large"]


def test_no_page_holds_its_results_itself(random_weights, monkeypatch):
    """gradio 3.41 keeps every page's states for ever."""
    page = build_page(random_weights)
    monkeypatch.setattr(compare_tab, "SIDES", ("64",))
    compare = pressed(page, "taesd_compare_run").__self__
    _, *made = finished(compare, compare.start(Image.linear_gradient("L"), ["taesd"], "64")[1])
    comparison = made[-1]
    export = pressed(page, "taesd_compare_export")
    assert isinstance(comparison, int)
    assert compare_tab.GONE in export(comparison + 1)[0]
    assert len(export(comparison)[1]["value"]) == 2
    assert not any(isinstance(value, torch.Tensor) for value in made)
    save = pressed(page, "taesd_again_save")
    assert decoded_box.GONE in save(7)[0]
    assert decoded_box.NOTHING_TO_SAVE in save(None)[0]


def test_files_for_download_do_not_grow_for_ever():
    paths = [Path(offered_file(f"../{place}.webp", b"film")) for place in range(MOST_OFFERED + 3)]
    assert [path.exists() for path in paths] == [False] * 3 + [True] * MOST_OFFERED
    assert not any(path.parent.exists() for path in paths[:3])
    assert paths[-1].read_bytes() == b"film"
