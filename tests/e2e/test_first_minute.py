"""From a WebUI's first start with the extension, without one weight file, to the first preview."""

from itertools import count

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


@pytest.fixture(params=["in the tab", "under a generation"])
def switch_on(request, fresh):
    """Presses "Use TAESD" and gives the number of clicks that it took."""
    fresh.set_options(**{METHOD: "Approx cheap", "taesd_ext_offer": True})

    def in_the_tab(page) -> int:
        generate_in_page(page, steps=30)
        page.wait_for_selector(OFFERED)
        wait_for_picture(page)
        go_to(page, "TAESD", "#tabs")
        page.click("#taesd_offer_use")
        page.wait_for_selector("#taesd_offer .taesd-ext-good")
        assert not page.locator(OFFERED).count()
        return 2

    def under_a_generation(page) -> int:
        generate_in_page(page, steps=30)
        page.locator(f"{OFFERED} button").first.click()
        wait_for_picture(page)
        return 1

    return in_the_tab if request.param == "in the tab" else under_a_generation


def test_it_is_switched_on_by_two_clicks_and_draws(browser, fresh, switch_on, tmp_path):
    with webui_window(browser, fresh) as page:
        shots = (f"first-minute-{switch_on.__name__}-{number}" for number in count())
        assert switch_on(page) <= 2
        keep_shot(page, tmp_path, next(shots))
        assert fresh.call("/sdapi/v1/options")[METHOD] == "TAESD"
        generate_in_page(page, side=256)
        page.wait_for_selector(BADGE)
        keep_shot(page, tmp_path, next(shots))
        assert fresh.call("/taesd/v1/status")["detail"] == "embedded"
        wait_for_picture(page)
