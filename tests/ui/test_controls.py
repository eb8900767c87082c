"""What stays chosen when a list is read anew."""

import pytest

from taesd_ext.ui import compat
from taesd_ext.ui.controls import offer, offer_newest


def test_what_was_chosen_stays_while_it_is_there():
    kept = offer(["a", "b"], "b")
    assert kept["choices"] == ["a", "b"]
    assert "value" not in kept  # the page's own, which may be newer
    assert offer(["a", "c"], "b")["value"] == "a"
    assert offer(["a"], None)["value"] == "a"
    assert offer([], "b")["value"] is None


@pytest.mark.parametrize(
    ("present", "newest", "shown"),
    [
        (None, "", "3 · new"),  # the first look
        ("2 · second", "2", "3 · new"),  # who had the newest goes on
        ("1 · first", "2", "1 · first"),
        ("1 · other words", "2", "1 · first"),  # a job gets more previews while it runs
        ("0 · gone", "2", "3 · new"),
    ],
)
def test_an_older_entry_stays_chosen_and_the_newest_goes_on(present, newest, shown):
    update, now = offer_newest(["3 · new", "2 · second", "1 · first"], present, newest)
    assert (update.get("value", present), now) == (shown, "3")
    update, now = offer_newest([], present, newest)
    assert (update["value"], now) == (None, "")


def test_choices_carry_their_key():
    assert compat.key_of(compat.choice("taesd", "Stable Diffusion · more")) == "taesd"
    assert compat.key_of(None) == ""
