"""What the pages show is escaped."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from taesd_ext.ui.markup import Markup, badge, bar_cell, counted, film, notice, progress_bar, slider, stage, table

EVIL = '<img src=x onerror="alert(1)">&"'


@pytest.mark.parametrize(
    "html",
    [
        notice(EVIL), badge(EVIL, "good"), table([EVIL], [[EVIL]]), stage(EVIL, (4, 3), EVIL),
        stage(None, (4, 3), "", empty=EVIL), progress_bar(0.5, EVIL), slider(EVIL, EVIL, (EVIL, EVIL), (4, 3)),
        film([(EVIL, EVIL), (EVIL, EVIL)], (4, 3)),
        table((), [[bar_cell(0.5, EVIL)]]), progress_bar(0.5, "", {"task": EVIL}),
    ],
)  # fmt: skip
def test_texts_from_outside_are_escaped(html):
    assert "<img src=x" not in html
    assert 'onerror="' not in html
    # As a page reads it: every tag is closed, every attribute quoted.
    closed = re.sub(r"<(img|input)([^>]*)>", r"<\1\2/>", html)
    ElementTree.fromstring(f"<div>{closed}</div>")


def test_only_markup_made_here_passes_into_a_table():
    html = table((), [["<b>", Markup("<b>x</b>")]])
    assert "&lt;b&gt;" in html
    assert "<b>x</b>" in html


def test_a_film_has_a_button_for_each_frame_and_shows_the_last():
    html = film([("data:a", "step 1 · x"), ("data:b", "step 2 · x")], (2, 1))
    assert html.count("data-frame=") == 2
    assert html.count("aria-current") == 1
    assert re.search(r'taesd-ext-shown" src="data:b"', html)
    assert film([], (1, 1)) == ""


@pytest.mark.parametrize(("share", "percent"), [(-1, 0), (0, 0), (0.333, 33), (7, 100)])
def test_a_bar_stays_within_its_frame(share, percent):
    assert f"width:{percent}%" in progress_bar(share)


def test_counted():
    assert [counted(number, "frame") for number in (0, 1, 1200)] == ["0 frames", "1 frame", "1,200 frames"]
