"""Reload UI of a real WebUI after the page that started long work was closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from chromium import choose, open_panel
from PIL import Image
from webui_page import webui_window

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def begin_compare(page: Any, picture: Any) -> None:
    open_panel(page, "Compare")
    page.wait_for_selector("#taesd_compare_codecs input")
    page.set_input_files("#taesd_compare_picture input[type=file]", picture)
    page.wait_for_selector("#taesd_compare_picture img")
    for box in page.locator("#taesd_compare_codecs input").all():
        box.set_checked(True)
    page.click("#taesd_compare_run")


def begin_benchmark(page: Any, picture: Any) -> None:
    open_panel(page, "Benchmark")
    choose(page, "taesd_bench_side", "1024")
    page.click("#taesd_bench_run")


def begin_final_again(page: Any, picture: Any) -> None:
    open_panel(page, "Re-decode")
    page.wait_for_function("document.querySelector('#taesd_again_kept input').value !== ''")
    page.click("#taesd_again")


def begin_film(page: Any, picture: Any) -> None:
    open_panel(page, "Timeline")
    page.wait_for_selector(".taesd-ext-strip button")
    page.click("#taesd_film_save")


def begin_verify(page: Any, picture: Any) -> None:
    open_panel(page, "Models")
    page.click("#taesd_verify")


def begin_samples(page: Any, picture: Any) -> None:
    open_panel(page, "Settings")
    page.click("#taesd_show_details")


ACTIONS = (begin_compare, begin_benchmark, begin_final_again, begin_film, begin_verify, begin_samples)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "own.png"
    Image.linear_gradient("L").resize((512, 512)).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("begin", ACTIONS, ids=lambda begin: begin.__name__.removeprefix("begin_"))
def test_reload_ui_after_a_page_was_closed(browser, webui, picture, begin: Callable[[Any, Any], None]):
    webui.generate(steps=8)
    with webui_window(browser, webui) as page:
        begin(page, picture)
        page.wait_for_timeout(1500)  # the work is under way
    began = time.perf_counter()
    webui.reload_ui()
    print(f"\nReload UI took {time.perf_counter() - began:.1f} s")
    assert webui.generate(steps=8).error is None
