"""The page of a real WebUI, A1111 or a fork, in headless Chromium: previews, controls and options are there."""

from __future__ import annotations

import shutil

import pytest

from taesd_ext.settings import OPTIONS

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MINUTES = 60_000
"""In the milliseconds of the browser's driver."""

READY = "typeof gradioApp === 'function' && !!gradioApp().querySelector('#txt2img_generate')"
PREVIEW = ".livePreview img"

@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def page(browser, webui):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.route(lambda url: not url.startswith(("http://127.0.0.1", "data:", "blob:")), lambda route: route.abort())
    opened = context.new_page()
    opened.set_default_timeout(5 * MINUTES)
    opened.errors = []
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.goto(f"http://127.0.0.1:{webui.port}", wait_until="domcontentloaded")
    opened.wait_for_function(READY)
    opened.wait_for_timeout(4000)  # the fields are drawn before they are listened to
    yield opened
    context.close()


def test_previews_appear_in_the_page_and_go_again(page):
    for name, value in (("width", 256), ("height", 256), ("steps", 16)):
        page.locator(f"#txt2img_{name} input[type=number]").fill(str(value))
    page.locator("#txt2img_prompt textarea").fill("scene")
    page.click("#txt2img_generate")
    page.wait_for_function(f"(gradioApp().querySelector('{PREVIEW}') || {{}}).naturalWidth > 0")
    assert page.evaluate(f"gradioApp().querySelector('{PREVIEW}').naturalWidth") == 256
    page.wait_for_function(
        f"!gradioApp().querySelector('{PREVIEW}') && gradioApp().querySelector('#txt2img_gallery img')"
    )
    # The hosts' own pages report this one after a number was typed.
    assert [error for error in page.errors if "reading 'props'" not in error] == []


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_each_tab_has_the_controls_once(page, tab):
    count = "ids => ids.map(id => gradioApp().querySelectorAll('#' + id).length)"
    names = ("accordion", "enabled", "family", "interval", "detail")
    assert page.evaluate(count, [f"script_{tab}_taesd_preview_{name}" for name in names]) == [1] * len(names)


def test_the_settings_have_each_option_once(page):
    count = "ids => ids.map(id => gradioApp().querySelectorAll('#' + id).length)"
    assert page.evaluate(count, [f"setting_{option.key}" for option in OPTIONS]) == [1] * len(OPTIONS)
    labels = "[...gradioApp().querySelectorAll('#setting_show_progress_type label')].map(label => label.innerText)"
    assert [label.strip() for label in page.evaluate(labels)].count("TAESD") == 1
