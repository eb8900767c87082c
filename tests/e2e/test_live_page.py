"""The live preview in a real WebUI's page: the first one, the badge and what it offers, the accordion's live effect."""

import contextlib
from typing import Any

import pytest
from chromium import choose, fill, is_wider_than_screen, keep_shot
from webui_page import COMBINATIONS, NAMES, generate_in_page, jobs, kinds_of, wait_for_picture, webui_window

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIDE, STEPS = 320, 24
"""A step of some tenths of a second: longer than the page takes to ask."""

LONG = 150
"""Steps of a job that a test ends before its time: the most that the page takes."""

POLL = 200
"""Milliseconds between two questions of the page."""

BADGE = ".taesd-ext-live"


@pytest.fixture(params=COMBINATIONS, ids=NAMES)
def page(request, browser, webui):
    size, scheme = request.param
    webui.set_options(live_preview_refresh_period=POLL, taesd_ext_detail="1/4")
    with webui_window(browser, webui, size, scheme) as page:
        yield page
        assert not is_wider_than_screen(page)
        assert {kind for kind in kinds_of(page.errors) if "props" not in kind and "ERR_FAILED" not in kind} == set()


def wait_for_step(page: Any, step: int) -> None:
    page.wait_for_function(
        f"step => parseInt(document.querySelector('{BADGE}:not([hidden])')?.textContent) >= step", arg=step
    )


def status(webui: Any) -> dict[str, Any]:
    return webui.call("/taesd/v1/status")


@contextlib.contextmanager
def a_job(page: Any, steps: int = STEPS):
    """A generation in the page with its badge in sight; over at the end."""
    generate_in_page(page, steps=steps, side=SIDE)
    wait_for_step(page, 2)
    try:
        yield
    finally:
        if page.locator(".livePreview, .progressDiv").count():
            page.click("#txt2img_interrupt")
        wait_for_picture(page)


def test_the_first_preview_is_on_the_page_within_a_step_and_a_poll(page, webui):
    generate_in_page(page, steps=2)  # models are loaded
    wait_for_picture(page)
    webui.call("/faults/set", {"slow": 2 * POLL / 1000})  # a poll falls into each step
    generate_in_page(page, steps=8, side=SIDE)
    page.wait_for_selector(".livePreview img")
    assert status(webui)["active"]
    wait_for_picture(page)
    webui.call("/faults/set", {})
    assert jobs(webui)[0]["frames"][0]["step"] <= 2


@pytest.mark.parametrize("way", ["badge", "accordion"])
def test_switched_off_in_the_middle_nothing_is_decoded_after_the_next_step(page, webui, way):
    if way == "accordion":
        page.click("#script_txt2img_taesd_preview_accordion .label-wrap")
        switch = page.locator("#script_txt2img_taesd_preview_enabled input")
    else:
        switch = page.locator(".taesd-ext-live-button[aria-label$=previews]")
    with a_job(page):
        switch.click()
        clicked = status(webui)["step"]
        page.wait_for_timeout(300)
        frames = status(webui)["frames"]
        while (now := status(webui))["active"] and now["step"] < clicked + 5:
            page.wait_for_timeout(50)
        print(f"\nswitched off at step {clicked}: previews of steps {[f['step'] for f in jobs(webui)[0]['frames']]}")
        assert jobs(webui)[0]["frames"][-1]["step"] <= clicked + 1
        assert now["frames"] - frames <= 1
        assert not now["enabled"]
        if way == "badge":
            assert page.inner_text(BADGE) == "paused"
        switch.click()  # and on again, at once
        wait_for_step(page, clicked + 6)
        assert status(webui)["frames"] > now["frames"]
    if way == "accordion":
        assert switch.is_checked()


def test_a_pause_ends_with_its_job(page):
    with a_job(page):
        page.click(".taesd-ext-live-button[aria-label='pause previews']")
        page.wait_for_selector(".taesd-ext-live-button[aria-label='resume previews']")
        # The next job is queued with its previews.
        assert page.locator("#script_txt2img_taesd_preview_enabled input").is_checked()
    page.wait_for_function("!document.querySelector('#script_txt2img_taesd_preview_paused input').checked")


def test_detail_family_and_interval_change_while_the_job_runs(page, webui):
    page.click("#script_txt2img_taesd_preview_accordion .label-wrap")
    with a_job(page):
        choose(page, "script_txt2img_taesd_preview_detail", "1/8")
        page.wait_for_function(f"document.querySelector('{BADGE}').textContent.includes('1/8')")
        fill(page, "script_txt2img_taesd_preview_interval", 4)
        choose(page, "script_txt2img_taesd_preview_family", "taesdxl")
        page.wait_for_function("(async () => (await (await fetch('./internal/taesd')).json()).family === 'taesdxl')()")
    choose(page, "script_txt2img_taesd_preview_detail", "as in Settings")
    fill(page, "script_txt2img_taesd_preview_interval", 0)


def test_the_badge_and_what_it_offers(page, tmp_path):
    width = page.viewport_size["width"]
    with a_job(page, steps=LONG):
        wait_for_step(page, 4)
        words = page.inner_text(BADGE)
        step, detail, cost, share = words.split(" · ")
        assert step.endswith(f"/{LONG}")
        assert detail == "1/4"
        assert cost.endswith(" ms")
        assert share.endswith(" %")
        bar = page.locator(".taesd-ext-live-bar").bounding_box()
        assert bar["x"] >= 0
        assert bar["x"] + bar["width"] <= width
        keep_shot(page, tmp_path, f"badge-{width}")
        # Hover over the bar: an earlier preview is shown until one leaves it.
        scrub = page.locator(".taesd-ext-scrub")
        box = scrub.bounding_box()
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.wait_for_selector(".taesd-ext-still:not([hidden])")
        page.mouse.move(5, 5)
        page.wait_for_selector(".taesd-ext-still", state="hidden")
        # One click saves the preview.
        page.click(".taesd-ext-live-button[title^='save']")
        page.wait_for_function("badge => document.querySelector(badge).textContent.endsWith('.png')", arg=BADGE)
        # By the keyboard alone: to the full view and back.
        page.locator(".taesd-ext-live-button").last.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".taesd-ext-full img")
        keep_shot(page, tmp_path, f"full-{width}")
        page.keyboard.press("Enter")
        page.wait_for_selector(".taesd-ext-full", state="detached")
        # And by a click on the picture.
        page.click(".livePreview img >> nth=-1")
        page.wait_for_selector(".taesd-ext-full img")
        assert not page.locator("#lightboxModal:visible").count()  # the host's own viewer of pictures
        page.click(".taesd-ext-full")
        page.wait_for_selector(".taesd-ext-full", state="detached")
    page.wait_for_selector(".taesd-ext-overlay", state="detached")


def test_escape_closes_the_full_view_and_else_is_the_hosts(page, webui):
    with a_job(page, steps=LONG):
        page.locator(".taesd-ext-live-button").last.click()
        page.wait_for_selector(".taesd-ext-full img")
        page.keyboard.down("Escape")
        page.keyboard.down("Escape")  # as a key that is held down repeats itself
        page.keyboard.up("Escape")
        page.wait_for_selector(".taesd-ext-full", state="detached")
        step = status(webui)["step"]
        wait_for_step(page, step + 3)  # the job goes on
        # Open, and closed another way: nothing of ours listens any more.
        page.locator(".taesd-ext-live-button").last.click()
        page.click(".taesd-ext-full")
        page.wait_for_selector(".taesd-ext-full", state="detached")
        page.locator(".taesd-ext-live-button").last.focus()
        page.keyboard.press("Escape")
        page.wait_for_function("!document.querySelector('.livePreview')")
        assert status(webui)["step"] < LONG


def test_without_the_badge(page, webui):
    webui.set_options(taesd_ext_badge=False)
    page.reload()
    page.wait_for_selector("#txt2img_generate", state="visible")
    page.wait_for_timeout(4000)
    generate_in_page(page, steps=12, side=SIDE)
    page.wait_for_selector(".livePreview img")
    page.wait_for_timeout(1000)
    assert not page.locator(f"{BADGE}:not([hidden])").count()
    wait_for_picture(page)
