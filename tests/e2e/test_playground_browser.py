"""The playground as a person uses it, in a headless Chromium: every tab, wide and on a phone, light and dark."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from chromium import (
    PHONE,
    WIDE,
    choose,
    fill,
    go_to,
    is_wider_than_screen,
    keep_shot,
    remove_file,
    squeezed,
    wait_for_value,
    wait_for_words,
    window,
)
from PIL import Image
from playground_server import running_playground
from safetensors.torch import save_file

from taesd_ext.models.tiny import Decoder, Encoder

pytestmark = pytest.mark.e2e

# Fonts from the network, which is not there.
BASE_LINE = ("Failed to load resource", "fonts.googleapis.com")

FIRST_PICTURE = "#taesd_preview img"
"""It comes by itself, and says that the page listens."""

STEPS = itertools.count(10)
"""Each generation has a number of its own, which ends in no other, so that the page's words tell it from the rest."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory) -> Iterator[str]:
    with running_playground(tmp_path_factory.mktemp("run"), folder) as address:
        yield address


@pytest.fixture(scope="module")
def weights(address, folder) -> Path:
    """For those who ask for them: they cost time in all tests that come later."""
    torch.manual_seed(0)
    save_file(Encoder(4).state_dict(), folder / "taesd_encoder.safetensors")
    save_file(Decoder(4).state_dict(), folder / "taesd_decoder.safetensors")
    return folder


@pytest.fixture
def opened(browser, address) -> Iterator[Callable[..., object]]:
    """Opens the page; at the end no error may have come up."""
    with contextlib.ExitStack() as stack:
        pages = []

        def open_page(size: tuple[int, int] = WIDE, scheme: str = "light"):
            page = stack.enter_context(window(browser, address, size, scheme, FIRST_PICTURE, settled=False))
            pages.append(page)
            return page

        yield open_page
    errors = [error for page in pages for error in page.errors]
    assert [error for error in errors if not any(known in error for known in BASE_LINE)] == []


def generate(page, family: str = "taesdxl") -> int:
    """A quick run; gives its number of steps. Without weights its previews are the embedded ones, which cost little."""
    steps = next(STEPS)
    choose(page, "taesd_family", family)
    choose(page, "taesd_size", "256")
    fill(page, "taesd_steps", steps)
    fill(page, "taesd_step_time", "100")
    fill(page, "taesd_budget", "0")
    page.click("#taesd_run")
    wait_for_words(page, "#taesd_timings", f"in {steps} steps")
    return steps


def own_picture(path: Path, size: tuple[int, int]) -> Path:
    Image.linear_gradient("L").resize(size).convert("RGB").save(path)
    return path


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide-light", "phone-dark"])
def test_every_tab_fits_the_screen(opened, tmp_path, size, scheme):
    page = opened(size, scheme)
    generate(page)
    assert page.get_attribute("#taesd_preview img", "src").startswith("data:image/")
    for tab in ("Live preview", "Models", "Settings", "Compare", "Latents", "Timeline", "Re-decode", "Benchmark"):
        go_to(page, tab)
        page.wait_for_selector(f"#taesd_tab_{tab.lower().replace('-', '').replace('live preview', 'play')}")
        if tab == "Compare":
            choose(page, "taesd_compare_side", "256")
            page.click("#taesd_compare_run")
            page.wait_for_selector("#taesd_compare_numbers tbody td")
        assert not is_wider_than_screen(page), tab
        assert squeezed(page) == [], tab
        keep_shot(page, tmp_path, f"playground-{scheme}-{tab}")


def test_a_picture_of_ones_own_and_stop(opened, tmp_path):
    page = opened(PHONE)
    page.set_input_files("#taesd_picture input[type=file]", own_picture(tmp_path / "own.png", (300, 150)))
    page.wait_for_selector("#taesd_picture img")
    generate(page)
    box = page.locator("#taesd_preview img").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(2, abs=0.05)
    fill(page, "taesd_steps", "60")
    page.click("#taesd_run")
    wait_for_words(page, "#taesd_preview", "of 60")
    menu = page.locator(".overflow-menu > button").first
    menu.click()
    page.wait_for_timeout(1500)
    assert page.locator(".overflow-dropdown").first.is_visible(), "the page asks for news meanwhile"
    menu.click()
    page.click("#taesd_stop")
    page.wait_for_selector("[data-task]", state="detached")
    assert "of 60" in page.inner_text("#taesd_preview")


def test_the_timeline_scrubs_plays_and_makes_a_film(opened):
    page = opened()
    steps = generate(page)
    go_to(page, "Timeline")
    wait_for_words(page, "#taesd_film", f"step {steps}/{steps}")
    shown = page.locator(".taesd-ext-film figcaption")
    page.locator(".taesd-ext-strip button").first.click()
    assert shown.inner_text().startswith(f"step 1/{steps}")
    page.keyboard.press("ArrowRight")
    assert shown.inner_text().startswith(f"step 2/{steps}")
    page.locator(".taesd-ext-film-bar input").fill("0")
    assert shown.inner_text().startswith(f"step 1/{steps}")
    page.click(".taesd-ext-play")
    page.wait_for_function("!document.querySelector('.taesd-ext-film figcaption').innerText.startsWith('step 1/')")
    page.click(".taesd-ext-play")
    page.click("#taesd_film_save")
    page.wait_for_selector("#taesd_film_result .taesd-ext-good")
    assert f"{steps} frames" in page.inner_text("#taesd_film_result")


def test_an_older_job_stays_chosen_while_newer_ones_come(opened):
    page = opened()
    older, newest = f"{generate(page)} previews", f"{generate(page)} previews"
    go_to(page, "Timeline")
    wait_for_value(page, "taesd_job", newest)
    choose(page, "taesd_job", older)
    wait_for_words(page, "#taesd_film", f"/{older.split()[0]}")
    go_to(page, "Live preview")
    steps = generate(page)
    go_to(page, "Timeline")
    page.locator("#taesd_job input").first.click()
    newer = page.locator(f"[role=option]:has-text('{steps} previews'), li:has-text('{steps} previews')").first
    newer.wait_for()  # the list was read anew
    assert f"/{older.split()[0]}" in page.inner_text("#taesd_film")
    newer.click()
    wait_for_words(page, "#taesd_film", f"/{steps}")


def test_settings_stay_when_the_page_is_opened_again(opened):
    page = opened()
    go_to(page, "Settings")
    for value in ("1/4", "Auto"):
        choose(page, "taesd_option_detail", value)
        again = opened()
        go_to(again, "Settings")
        wait_for_value(again, "taesd_option_detail", value)


def test_a_file_of_ones_own_is_added_verified_and_removed(opened, weights, tmp_path):
    torch.manual_seed(3)
    mine, added = tmp_path / "mine for sd3.safetensors", weights / "taesd3_decoder.safetensors"
    save_file(Decoder(16).state_dict(), mine)
    page = opened()
    go_to(page, "Models")
    wait_for_words(page, "#taesd_models_table", "taesd_decoder.safetensors")
    page.set_input_files("#taesd_own_file input[type=file]", mine)
    page.wait_for_selector("#taesd_models_result .taesd-ext-good")
    assert added.is_file()
    choose(page, "taesd_file", "taesd3_decoder")
    page.click("#taesd_verify")
    wait_for_words(page, "#taesd_models_result", "cannot be verified")
    assert added.name in remove_file(page, really=False)
    assert added.exists()
    remove_file(page)
    wait_for_words(page, "#taesd_models_result", f"{added.name} was removed")
    assert not added.exists()
    assert (weights / "taesd_encoder.safetensors").exists()


def test_a_picture_becomes_a_latent_and_a_picture_again(opened, weights, tmp_path):
    page = opened()
    go_to(page, "Latents")
    page.set_input_files("#taesd_latent_source input[type=file]", own_picture(tmp_path / "own.png", (96, 64)))
    page.wait_for_selector("#taesd_latent_source img")
    page.click("#taesd_encode")
    page.wait_for_selector("#taesd_latent_channels img")
    with page.expect_download() as download:
        page.locator("#taesd_latent_file a").first.click()
    stored = tmp_path / "stored.png"
    download.value.save_as(stored)
    page.set_input_files("#taesd_latent_stored input[type=file]", stored)
    wait_for_words(page, "#taesd_latent_stored", "stored")
    page.click("#taesd_decode")
    wait_for_words(page, "#taesd_latent_result", "96x64")


def test_compare_redecode_and_benchmark(opened, weights, tmp_path):
    page = opened()
    fill(page, "taesd_interval", 20)
    generate(page, "taesd ")
    assert "Final decode" in page.inner_text("#taesd_timings")
    go_to(page, "Compare")
    page.wait_for_selector("#taesd_compare_codecs input:checked")
    page.wait_for_selector("#taesd_compare_picture img")  # a sample, for whoever has none at hand
    choose(page, "taesd_compare_side", "256")
    page.click("#taesd_compare_run")
    page.wait_for_selector("#taesd_compare_numbers tbody td")
    slider = page.locator("#taesd_compare_shown .taesd-ext-slider")
    slider.locator("input").fill("20")
    assert slider.get_attribute("style").endswith("--cut: 20%;")
    # Another picture takes the results away.
    page.locator("#taesd_compare_picture button[aria-label^='Clear'], [aria-label^='Remove']").first.click()
    slider.wait_for(state="detached")
    page.set_input_files("#taesd_compare_picture input[type=file]", own_picture(tmp_path / "own.png", (96, 64)))
    page.wait_for_selector("#taesd_compare_picture img")
    page.click("#taesd_compare_run")
    slider.wait_for()
    box = slider.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.5, abs=0.05)

    go_to(page, "Re-decode")
    wait_for_value(page, "taesd_again_decoder", "taesd")
    page.click("#taesd_again")
    page.wait_for_selector("#taesd_again_shown img")

    go_to(page, "Benchmark")
    choose(page, "taesd_bench_side", "256")
    page.click("#taesd_bench_run")
    page.wait_for_selector("#taesd_bench_progress .taesd-ext-good")
    assert page.locator("#taesd_bench_result .taesd-ext-bar-cell").count() >= 1


def test_work_ends_with_its_page(browser, address, weights, opened):
    with window(browser, address, ready=FIRST_PICTURE, settled=False) as page:
        go_to(page, "Benchmark")
        choose(page, "taesd_bench_side", "1024")
        page.click("#taesd_bench_run")
        task = page.wait_for_selector("#taesd_bench_progress [data-task]").get_attribute("data-task")
        page.goto("about:blank")  # closing it would take the requests along that Playwright looks at
    # Another page can start the same: the one that was closed has let go of it.
    again = opened()
    go_to(again, "Benchmark")
    again.click("#taesd_bench_run")
    assert again.wait_for_selector("#taesd_bench_progress [data-task]").get_attribute("data-task") != task
    again.click("#taesd_bench_cancel")
    again.wait_for_selector("#taesd_bench_progress [data-task]", state="detached")
