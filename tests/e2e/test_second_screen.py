"""The page for a second screen, and previews and steps that are saved, in a real WebUI."""

import json
import threading

import pytest
from chromium import PHONE, is_wider_than_screen, keep_shot
from PIL import Image
from webui_server import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def saved(webui) -> dict[str, str]:
    """Preview step -> detail, "" for a full picture, of every picture that was saved with one."""
    found = {}
    for file in webui.data.rglob("*.png"):
        with Image.open(file) as picture:
            parameters = dict(
                pair.split(": ", 1) for pair in picture.info.get("parameters", "").split("\n")[-1].split(", ")
                if ": " in pair
            )  # fmt: skip
        if "Preview step" in parameters:
            found[parameters["Preview step"]] = parameters.get("Preview detail", "")
    return found


@pytest.mark.parametrize(("size", "scheme"), [((1920, 1080), "light"), (PHONE, "dark")])
def test_it_follows_a_job_of_the_api_and_saves_what_it_shows(browser, webui, tmp_path, size, scheme):
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(300_000)
    page.goto(f"http://127.0.0.1:{webui.port}/taesd/preview")
    job = threading.Thread(target=webui.generate, kwargs={"steps": 41, "width": 256, "height": 256})
    job.start()
    page.wait_for_function("Number(document.getElementById('film').max) >= 2")
    page.click("#save")
    page.wait_for_function("document.getElementById('save').textContent.endsWith('.png')")
    keep_shot(page, tmp_path, f"second-screen-{width}")
    assert not is_wider_than_screen(page)
    box = page.locator("#picture").bounding_box()
    assert box["width"] > 0.9 * width
    webui.call("/sdapi/v1/interrupt", {})
    job.join()
    page.wait_for_function("document.getElementById('save').disabled")
    assert [detail for step, detail in saved(webui).items() if step.endswith("/41")] != [""]
    page.close()


def test_it_speaks_the_users_language(browser, webui):
    table = json.loads((ROOT / "localizations" / "zh_CN.json").read_text(encoding="utf-8"))
    webui.set_options(localization="zh_CN")
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{webui.port}/taesd/preview")
    page.wait_for_function("document.getElementById('waiting').textContent")
    shown = page.text_content("#waiting"), page.text_content("#screen"), page.get_attribute("#film", "aria-label")
    page.close()
    webui.set_options(localization="None")
    assert shown == tuple(
        table[text] for text in ("Waiting for a job", "Full screen", "look back through this job's previews")
    )


def test_every_n_steps_is_saved_in_full(webui):
    webui.set_options(taesd_ext_save_every=3)
    webui.generate(steps=7)
    assert {step: detail for step, detail in saved(webui).items() if step.endswith("/7")} == {"3/7": "", "6/7": ""}
