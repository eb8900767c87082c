"""The playground as a person uses it, in a headless Chromium: every tab, at two widths, light and dark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from chromium import PHONE, WIDE, choose, chosen, fill, go_to, is_wider_than_screen, wait_for_words, window
from PIL import Image
from playground_server import running_playground
from safetensors.torch import save_file

from taesd_ext.models.tiny import Decoder, Encoder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# Fonts from the network, which is not there.
BASE_LINE = ("Failed to load resource", "fonts.googleapis.com")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(Encoder(4).state_dict(), folder / "taesd_encoder.safetensors")
    save_file(Decoder(4).state_dict(), folder / "taesd_decoder.safetensors")
    return folder


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory) -> Iterator[str]:
    with running_playground(tmp_path_factory.mktemp("run"), weights) as address:
        yield address


@pytest.fixture
def opened(browser, address) -> Iterator[Callable[..., object]]:
    """Opens the page; at the end no error may have come up."""
    with contextlib.ExitStack() as stack:
        pages = []

        def open_page(size: tuple[int, int] = WIDE, scheme: str = "light"):
            page = stack.enter_context(window(browser, address, size, scheme, ready="#taesd_run"))
            pages.append(page)
            return page

        yield open_page
    errors = [error for page in pages for error in page.errors]
    assert [error for error in errors if not any(known in error for known in BASE_LINE)] == []


def generate(page, steps: int = 6) -> None:
    """A quick run of a few steps."""
    choose(page, "taesd_size", "256")
    fill(page, "taesd_steps", steps)
    fill(page, "taesd_step_time", "100")
    fill(page, "taesd_budget", "0")
    page.click("#taesd_run")
    wait_for_words(page, "#taesd_timings", f"in {steps} steps")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_generate_shows_a_live_preview_and_the_timings(opened, size, scheme):
    page = opened(size, scheme)
    generate(page)

    words = page.inner_text("#taesd_timings")
    assert "6 in 6 steps" in words
    assert "Final decode" in words
    assert page.get_attribute("#taesd_preview img", "src").startswith("data:image/")
    # Nothing is wider than the screen.
    assert not is_wider_than_screen(page)


def test_the_preview_keeps_its_size_whatever_its_detail(opened):
    page = opened()
    fill(page, "taesd_steps", "12")
    fill(page, "taesd_budget", "0")
    choose(page, "taesd_size", "256")
    boxes = set()
    # Without weights a frame has one pixel for each of the latent's positions, with them 64.
    for family, detail in (("taesd3", "linear"), ("taesd ", "full")):
        choose(page, "taesd_family", family)
        page.click("#taesd_run")
        page.wait_for_function(f"document.querySelector('#taesd_preview').innerText.includes('detail {detail}')")
        box = page.locator("#taesd_preview img").bounding_box()
        boxes.add((round(box["width"]), round(box["height"])))
        page.click("#taesd_stop")
        page.wait_for_timeout(500)
    assert len(boxes) == 1


def test_a_picture_of_ones_own(opened, tmp_path):
    path = tmp_path / "own.png"
    Image.linear_gradient("L").resize((300, 150)).convert("RGB").save(path)
    page = opened()
    page.set_input_files("#taesd_picture input[type=file]", path)
    page.wait_for_selector("#taesd_picture img")
    generate(page)
    box = page.locator("#taesd_preview img").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(2, abs=0.05)


def test_stop_ends_a_run(opened):
    page = opened()
    fill(page, "taesd_steps", "60")
    page.click("#taesd_run")
    page.wait_for_function("document.querySelector('#taesd_preview').innerText.includes('step 2')")
    page.click("#taesd_stop")
    page.wait_for_timeout(1000)
    before = page.inner_text("#taesd_preview")
    page.wait_for_timeout(1500)
    assert page.inner_text("#taesd_preview") == before


def test_the_timeline_scrubs_plays_and_makes_a_film(opened):
    page = opened()
    generate(page)
    go_to(page, "Timeline")
    page.wait_for_selector(".taesd-ext-strip button")
    shown = page.locator(".taesd-ext-film figcaption")
    page.locator(".taesd-ext-strip button").first.click()
    assert shown.inner_text().startswith("step 1/6")
    page.keyboard.press("ArrowRight")
    assert shown.inner_text().startswith("step 2/6")
    page.locator(".taesd-ext-film-bar input").fill("0")
    assert shown.inner_text().startswith("step 1/6")
    page.click(".taesd-ext-play")
    page.wait_for_function("document.querySelector('.taesd-ext-film figcaption').innerText.startsWith('step 4')")
    page.click(".taesd-ext-play")
    page.click("#taesd_film_save")
    page.wait_for_selector("#taesd_film_result .taesd-ext-good")
    assert "6 frames" in page.inner_text("#taesd_film_result")


FRAMES_IN_TWO_SECONDS = """() => new Promise(done => {
    let frames = 0;
    const watcher = new MutationObserver(changes => { frames += changes.length; });
    const shown = document.querySelector('.taesd-ext-shown');
    watcher.observe(shown, { attributes: true, attributeFilter: ['src'] });
    setTimeout(() => { watcher.disconnect(); done(frames); }, 2000);
})"""


def test_a_film_that_is_paused_and_played_quickly_keeps_its_pace(opened):
    page = opened()
    generate(page, steps=24)
    go_to(page, "Timeline")
    page.wait_for_selector(".taesd-ext-strip button")
    page.locator(".taesd-ext-strip button").first.click()
    page.evaluate("for (let i = 0; i < 11; i++) document.querySelector('.taesd-ext-play').click()")  # it plays now
    assert 1 <= page.evaluate(FRAMES_IN_TWO_SECONDS) <= 14  # one each 160 ms


def test_settings_stay_when_the_page_is_opened_again(opened):
    page = opened()
    go_to(page, "Settings")
    choose(page, "taesd_option_detail", "1/4")
    page.wait_for_timeout(800)
    again = opened()
    go_to(again, "Settings")
    again.wait_for_function("document.querySelector('#taesd_option_detail input').value === '1/4'")
    choose(again, "taesd_option_detail", "Auto")
    again.wait_for_timeout(800)


def test_the_models_table_and_a_file_of_ones_own(opened, weights, tmp_path):
    torch.manual_seed(3)
    mine = tmp_path / "mine for sd3.safetensors"
    save_file(Decoder(16).state_dict(), mine)
    page = opened()
    go_to(page, "Models")
    page.wait_for_selector("#taesd_models_table table")
    assert "taesd_decoder.safetensors" in page.inner_text("#taesd_models_table")

    page.set_input_files("#taesd_own_file input[type=file]", mine)
    page.wait_for_selector("#taesd_models_result .taesd-ext-good")
    assert (weights / "taesd3_decoder.safetensors").is_file()
    choose(page, "taesd_file", "taesd3_decoder")
    page.click("#taesd_verify")
    wait_for_words(page, "#taesd_models_result", "cannot be verified")
    choose(page, "taesd_file", "taesd3_decoder")
    page.click("#taesd_remove")
    page.click("#taesd_remove_yes")
    page.wait_for_function("document.querySelector('#taesd_models_result').innerText.includes('was removed')")
    assert not (weights / "taesd3_decoder.safetensors").exists()


def test_the_file_that_was_chosen_and_no_other_is_deleted(opened, weights):
    def remove(name: str) -> None:
        choose(page, "taesd_file", name)
        page.click("#taesd_remove")
        page.wait_for_selector("#taesd_remove_yes", state="visible")

    spare = [weights / f"spare_{letter}.safetensors" for letter in "abc"]
    for path in spare:
        path.write_bytes(b"{}")
    page = opened()
    go_to(page, "Models")
    page.wait_for_selector("#taesd_models_table table")
    choose(page, "taesd_file", "spare_b")
    page.click("#taesd_verify")
    wait_for_words(page, "#taesd_models_result", "spare_b")
    page.wait_for_timeout(1000)
    assert chosen(page, "taesd_file").endswith("spare_b.safetensors")
    # What the page does by itself when one comes back to it.
    remove("spare_b")
    page.click("#taesd_models_refresh")
    page.wait_for_timeout(2500)
    assert chosen(page, "taesd_file").endswith("spare_b.safetensors")
    assert "spare_b.safetensors" in page.inner_text("#taesd_remove_which")
    page.click("#taesd_remove_yes")
    wait_for_words(page, "#taesd_models_result", "spare_b.safetensors was removed")
    assert [path.exists() for path in spare] == [True, False, True]
    page.wait_for_selector("#taesd_remove_yes", state="hidden")
    # Another choice, or a file that went another way, takes the question back.
    remove("spare_c")
    choose(page, "taesd_file", "spare_a")
    page.wait_for_selector("#taesd_remove_yes", state="hidden")
    remove("spare_c")
    spare[2].unlink()
    page.click("#taesd_models_refresh")
    page.wait_for_selector("#taesd_remove_yes", state="hidden")
    assert not chosen(page, "taesd_file").endswith("spare_c.safetensors")
    assert spare[0].exists()
    remove("spare_a")
    page.click("#taesd_remove_no")
    page.wait_for_selector("#taesd_remove_yes", state="hidden")
    assert spare[0].exists()
    spare[0].unlink()


def test_an_older_job_and_picture_stay_chosen(opened):
    page = opened()
    generate(page)
    generate(page, steps=7)
    for tab, dropdown, refresh, steps in (
        ("Timeline", "taesd_job", "taesd_timeline_refresh", 8),
        ("Re-decode", "taesd_again_kept", "taesd_again_refresh", 9),
    ):
        go_to(page, tab)
        page.wait_for_function(f"document.querySelector('#{dropdown} input').value")
        newest = chosen(page, dropdown)
        page.locator(f"#{dropdown} input").first.click()
        page.locator("[role=option]:visible, li:visible:has-text('·')").nth(1).click()
        page.wait_for_timeout(800)
        older = chosen(page, dropdown)
        assert older != newest
        page.click(f"#{refresh}")
        page.wait_for_timeout(1500)
        assert chosen(page, dropdown) == older
        choose(page, dropdown, newest)
        page.wait_for_timeout(800)
        go_to(page, "Live preview")
        generate(page, steps)
        go_to(page, tab)
        page.wait_for_function(f"document.querySelector('#{dropdown} input').value !== {newest!r}")


def test_a_download_without_a_network_says_so(opened):
    page = opened()
    go_to(page, "Models")
    choose(page, "taesd_download_family", "taef1")
    page.click("#taesd_download")
    page.wait_for_selector("#taesd_download_progress .taesd-ext-bad")
    assert "HF_HUB_OFFLINE" in page.inner_text("#taesd_download_progress")


def test_a_picture_becomes_a_latent_and_a_picture_again(opened, tmp_path):
    path = tmp_path / "own.png"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(path)
    page = opened()
    go_to(page, "Latents")
    page.set_input_files("#taesd_latent_source input[type=file]", path)
    page.wait_for_selector("#taesd_latent_source img")
    page.click("#taesd_encode")
    page.wait_for_selector("#taesd_latent_channels img")
    with page.expect_download() as download:
        page.locator("#taesd_latent_file a").first.click()
    stored = tmp_path / "latent.png"
    download.value.save_as(stored)
    page.set_input_files("#taesd_latent_stored input[type=file]", stored)
    page.wait_for_timeout(800)
    page.click("#taesd_decode")
    page.wait_for_function("document.querySelector('#taesd_latent_result').innerText.includes('96x64')")


def test_compare_and_redecode_and_benchmark(opened):
    page = opened()
    generate(page)
    go_to(page, "Compare")
    page.wait_for_selector("#taesd_compare_codecs input")
    page.wait_for_selector("#taesd_compare_picture img")  # a sample, for whoever has none at hand
    choose(page, "taesd_compare_side", "256")
    page.click("#taesd_compare_run")
    page.wait_for_selector("#taesd_compare_numbers tbody td")
    cut = page.locator("#taesd_compare_shown .taesd-ext-slider input")
    cut.fill("20")
    assert page.get_attribute("#taesd_compare_shown .taesd-ext-slider", "style").endswith("--cut: 20%;")
    go_to(page, "Re-decode")
    page.wait_for_function("document.querySelector('#taesd_again_decoder input').value === 'taesd'")
    page.click("#taesd_again")
    page.wait_for_selector("#taesd_again_shown img")
    go_to(page, "Benchmark")
    choose(page, "taesd_bench_side", "256")
    page.click("#taesd_bench_run")
    page.wait_for_selector("#taesd_bench_progress .taesd-ext-good")
    assert page.locator("#taesd_bench_result .taesd-ext-bar-cell").count() >= 1


LONG = {
    "taesd_run": ("Live preview", lambda page: fill(page, "taesd_steps", "60")),
    "taesd_compare_run": ("Compare", lambda page: choose(page, "taesd_compare_side", "1024")),
    "taesd_bench_run": ("Benchmark", lambda page: choose(page, "taesd_bench_side", "1024")),
}
"""Button -> its tab, and what makes its work long."""


@pytest.mark.parametrize("button", LONG)
def test_work_ends_with_its_page(browser, address, opened, button):
    tab, make_long = LONG[button]
    with window(browser, address, ready="#taesd_run") as page:
        go_to(page, tab)
        if tab == "Compare":
            page.wait_for_selector("#taesd_compare_picture img")
        make_long(page)
        page.click(f"#{button}")
        task = page.wait_for_selector("[data-task]").get_attribute("data-task")
        page.goto("about:blank")  # closing it would take the requests along that Playwright looks at
    # Another page can start the same: the one that was closed has let go of it.
    again = opened()
    go_to(again, tab)
    if tab == "Compare":
        again.wait_for_selector("#taesd_compare_picture img")
    again.click(f"#{button}")
    assert again.wait_for_selector("[data-task]").get_attribute("data-task") != task
    again.click({"taesd_run": "#taesd_stop"}.get(button, f"#{button.removesuffix('_run')}_cancel"))
    again.wait_for_selector("[data-task]", state="detached")


def test_a_picture_dropped_meanwhile_takes_the_results_away(opened, tmp_path):
    path = tmp_path / "own.png"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(path)
    page = opened()
    go_to(page, "Compare")
    page.wait_for_selector("#taesd_compare_picture img")
    choose(page, "taesd_compare_side", "256")
    page.click("#taesd_compare_run")
    page.wait_for_selector("#taesd_compare_shown img")
    page.locator("#taesd_compare_picture button[aria-label^='Clear'], [aria-label^='Remove']").first.click()
    page.wait_for_selector("#taesd_compare_shown img", state="detached")
    page.set_input_files("#taesd_compare_picture input[type=file]", path)
    page.wait_for_selector("#taesd_compare_picture img")
    page.click("#taesd_compare_run")
    page.wait_for_selector("#taesd_compare_shown img")
    box = page.locator("#taesd_compare_shown .taesd-ext-slider").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.5, abs=0.05)
