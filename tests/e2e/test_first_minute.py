"""From a WebUI's first start with the extension, without one weight file, to the first preview."""

import pytest
from chromium import go_to, keep_shot
from webui_page import generate_in_page, wait_for_picture, webui_window
from webui_server import WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BADGE = ".taesd-ext-live:not([hidden])"
OFFERED = ".taesd-ext-offered"
METHOD = "show_progress_type"


@pytest.fixture(scope="module")
def fresh(checkpoints, hf_home, tmp_path_factory):
    with WebUIServer(tmp_path_factory.mktemp("fresh"), checkpoints, hf_home) as running:
        yield running


def in_the_tab(page) -> None:
    """By two clicks."""
    generate_in_page(page, steps=30)
    page.wait_for_selector(OFFERED)
    wait_for_picture(page)
    go_to(page, "TAESD", "#tabs")
    page.click("#taesd_offer_use")
    page.wait_for_selector("#taesd_offer .taesd-ext-good")
    assert not page.locator(OFFERED).count()


def under_a_generation(page) -> None:
    """By one."""
    generate_in_page(page, steps=30)
    page.locator(f"{OFFERED} button").first.click()
    wait_for_picture(page)


@pytest.mark.parametrize("switch_on", [in_the_tab, under_a_generation])
def test_it_is_switched_on_and_draws(browser, fresh, tmp_path, switch_on):
    fresh.set_options(**{METHOD: "Approx cheap", "taesd_ext_offer": True})
    with webui_window(browser, fresh) as page:
        switch_on(page)
        keep_shot(page, tmp_path, f"first-minute-{switch_on.__name__}-on")
        assert fresh.call("/sdapi/v1/options")[METHOD] == "TAESD"
        generate_in_page(page, side=256)
        page.wait_for_selector(BADGE)
        keep_shot(page, tmp_path, f"first-minute-{switch_on.__name__}-drawn")
        assert fresh.call("/taesd/v1/status")["detail"] == "embedded"
        wait_for_picture(page)
