"""The page of a real WebUI, A1111 or a fork, in headless Chromium: previews, controls, options, and the switch."""

import json
import time

import pytest
from chromium import go_to, keep_shot
from webui_page import generate_in_page, wait_for_picture, webui_window
from webui_server import OPTIONS

from taesd_ext.settings import OPTIONS as OUR_OPTIONS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREVIEW = ".livePreview img"
EXTENSION = "taesd-ext"
"""The name of its folder, by which the WebUI switches it."""


@pytest.fixture
def page(browser, webui):
    with webui_window(browser, webui) as opened:
        yield opened


def wait_for_preview(page, folder, name: str) -> int:
    """Until a preview is shown; its width. Keeps a screenshot of the page at that moment."""
    page.wait_for_function(f"(document.querySelector('{PREVIEW}') || {{}}).naturalWidth > 0")
    keep_shot(page, folder, name)
    return page.evaluate(f"(document.querySelector('{PREVIEW}') || {{}}).naturalWidth")


def test_previews_appear_in_the_page_and_go_again(page, tmp_path):
    generate_in_page(page, steps=16, side=256)
    assert wait_for_preview(page, tmp_path, "txt2img-preview") in (256, None)  # None: over since
    wait_for_picture(page)
    keep_shot(page, tmp_path, "txt2img-picture")
    # The hosts' own pages report this one after a number was typed.
    uncaught = [error for error in page.errors if error.startswith("uncaught") and "reading 'props'" not in error]
    assert uncaught == []


def test_previews_appear_in_img2img(page, tmp_path, scene):
    scene.resize((256, 256)).save(tmp_path / "scene.png")
    go_to(page, "img2img", "#tabs")
    page.set_input_files("#img2img_image input[type=file]", tmp_path / "scene.png")
    page.wait_for_timeout(2000)  # the picture is drawn
    generate_in_page(page, steps=16, side=256, tab="img2img")
    assert wait_for_preview(page, tmp_path, "img2img-preview") in (256, None)
    wait_for_picture(page, "img2img")
    keep_shot(page, tmp_path, "img2img-picture")


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_each_tab_has_the_controls_once(page, tab):
    names = ("accordion", "enabled", "family", "interval", "detail")
    assert counts(page, [f"script_{tab}_taesd_preview_{name}" for name in names]) == [1] * len(names)


def test_the_settings_have_each_option_once(page):
    assert counts(page, [f"setting_{option.key}" for option in OUR_OPTIONS]) == [1] * len(OUR_OPTIONS)
    labels = page.evaluate("[...document.querySelectorAll('#setting_show_progress_type label')].map(l => l.innerText)")
    assert [label.strip() for label in labels].count("TAESD") == 1


def counts(page, ids: list[str]) -> list[int]:
    """How many elements of each id the page has."""
    return page.evaluate("ids => ids.map(id => gradioApp().querySelectorAll('#' + id).length)", ids)


def switch(page, server, on: bool) -> None:
    """In the Extensions tab; the WebUI ends then, as nobody is there to start it again."""
    go_to(page, "Extensions", "#tabs")
    page.locator(f"input[name='enable_{EXTENSION}']").set_checked(on)
    page.locator("button:visible", has_text="Apply and quit").click()
    deadline = time.monotonic() + 60
    while server.process.poll() is None:
        assert time.monotonic() < deadline, "the WebUI goes on"
        page.wait_for_timeout(100)  # not asleep: the page's requests pass through here
    disabled = json.loads((server.data / "config.json").read_text())["disabled_extensions"]
    assert (EXTENSION in disabled) != on


def test_switched_off_and_on_again(browser, new_server, tmp_path):
    with new_server() as server:
        server.set_options(**{**OPTIONS, "sd_vae_decode_method": "TAESD", "sd_vae_encode_method": "TAESD"})
        assert server.generate(steps=20).previews
        with webui_window(browser, server) as page:
            switch(page, server, on=False)
    with new_server(data=server.data) as bare:
        state = bare.call("/probe/state")
        assert set(state["depth"].values()) == {0}
        assert state["options"] == []
        assert "taesd_ext" not in bare.output()
        bare.set_options(
            show_progress_type="Approx cheap", show_progress_every_n_steps=1,
            sd_vae_decode_method="Full", sd_vae_encode_method="Full",
        )  # fmt: skip
        with webui_window(browser, bare) as page:
            assert page.locator("[id*=taesd_preview], [id*=taesd_ext]").count() == 0
            generate_in_page(page, steps=16, side=256)
            assert wait_for_preview(page, tmp_path, "switched-off") in (32, None)
            wait_for_picture(page)
            switch(page, bare, on=True)
    with new_server(data=server.data) as again:
        assert set(again.call("/probe/state")["depth"].values()) == {1}
        again.set_options(**OPTIONS)
        assert "taesd" in again.generate(steps=20).families
