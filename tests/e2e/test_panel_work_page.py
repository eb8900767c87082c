"""The TAESD tab of a real WebUI: Compare, Latents, Timeline, Re-decode and Benchmark, used as a person would."""

from __future__ import annotations

import io

import pytest
from chromium import choose, chosen, fill, go_to, is_wider_than_screen, keep_shot, open_panel, wait_for_words
from PIL import Image
from webui_page import COMBINATIONS, NAMES, generate_in_page, jobs, kinds_of, wait_for_picture, webui_window

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = 10
HOSTS_OWN = {
    "Failed to load resource: net::ERR_FAILED",
    "uncaught: Cannot read properties of undefined (reading 'props')",
}
"""What A1111's and Forge's pages say by themselves; test_panel_page.py measures it."""


@pytest.fixture(params=COMBINATIONS, ids=NAMES)
def page(request, browser, webui):
    size, scheme = request.param
    webui.generate(steps=STEPS)
    with webui_window(browser, webui, size, scheme) as page:
        yield page
        assert not is_wider_than_screen(page)
        assert kinds_of(page.errors) <= HOSTS_OWN


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "own.png"
    Image.linear_gradient("L").resize((120, 80)).convert("RGB").save(path)
    return path


def shot(page, tmp_path, name: str) -> None:
    keep_shot(page, tmp_path, f"{name}-{page.viewport_size['width']}", "#tab_taesd_ext")


def downloaded(page, box: str) -> bytes:
    """What the first link of a file box gives."""
    page.wait_for_selector(f"#{box} a")
    with page.expect_download() as download:
        page.locator(f"#{box} a").first.click()
    return download.value.path().read_bytes()


def test_compare(page, picture, tmp_path):
    open_panel(page, "Compare")
    page.wait_for_selector("#taesd_compare_codecs input")
    page.set_input_files("#taesd_compare_picture input[type=file]", picture)
    page.wait_for_selector("#taesd_compare_picture img")
    boxes = page.locator("#taesd_compare_codecs label")
    for index in range(boxes.count()):
        wanted = boxes.nth(index).inner_text().strip() in ("taesd", "taef1")
        boxes.nth(index).locator("input").set_checked(wanted)
    choose(page, "taesd_compare_side", "256")
    page.click("#taesd_compare_run")
    page.wait_for_selector("#taesd_compare_numbers tbody td")
    rows = page.locator("#taesd_compare_numbers tbody tr")
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["taesd", "taef1"]
    assert "dB" in page.inner_text("#taesd_compare_numbers")
    choose(page, "taesd_compare_second", "taef1")
    wait_for_words(page, "#taesd_compare_shown", "taef1")
    page.locator("#taesd_compare_shown .taesd-ext-slider input").fill("20")
    assert "--cut: 20%" in page.get_attribute("#taesd_compare_shown .taesd-ext-slider", "style")
    page.locator("#taesd_compare_difference input").check()
    wait_for_words(page, "#taesd_compare_shown", "Difference")
    shot(page, tmp_path, "compare")
    page.click("#taesd_compare_export")
    assert downloaded(page, "taesd_compare_files")


def test_a_picture_becomes_a_latent_and_a_picture_again(page, picture, tmp_path):
    open_panel(page, "Latents")
    page.set_input_files("#taesd_latent_source input[type=file]", picture)
    page.wait_for_selector("#taesd_latent_source img")
    page.click("#taesd_encode")
    page.wait_for_selector("#taesd_latent_channels img")
    stored = tmp_path / "latent.png"
    stored.write_bytes(downloaded(page, "taesd_latent_file"))
    page.set_input_files("#taesd_latent_stored input[type=file]", stored)
    page.wait_for_timeout(1500)
    page.click("#taesd_decode")
    wait_for_words(page, "#taesd_latent_result", "Decoded by taesd: 120x80")
    page.wait_for_selector("#taesd_latent_decoded img")
    shot(page, tmp_path, "latents")
    choose(page, "taesd_latent_decoder", "taesd3")
    page.click("#taesd_decode")
    wait_for_words(page, "#taesd_latent_result", "taesd3")  # says why it does not fit


def test_the_timeline_scrubs_plays_and_makes_films(page, webui, tmp_path):
    open_panel(page, "Timeline")
    page.wait_for_selector(".taesd-ext-strip button")
    newest = jobs(webui)[0]
    shown = page.locator(".taesd-ext-film figcaption")
    assert page.locator(".taesd-ext-strip button").count() == len(newest["frames"])
    page.locator(".taesd-ext-strip button").first.click()
    first = newest["frames"][0]["step"]
    assert shown.inner_text().startswith(f"step {first}/{STEPS}")
    page.keyboard.press("ArrowRight")
    second = newest["frames"][1]["step"]
    assert shown.inner_text().startswith(f"step {second}/{STEPS}")
    page.locator(".taesd-ext-film-bar input").fill("0")
    assert shown.inner_text().startswith(f"step {first}/{STEPS}")
    page.click(".taesd-ext-play")
    last = newest["frames"][-1]["step"]
    page.wait_for_function(
        "words => document.querySelector('.taesd-ext-film figcaption').innerText.startsWith(words)",
        arg=f"step {last}/",
    )
    page.click(".taesd-ext-play")
    fill(page, "taesd_film_length", 1)
    fill(page, "taesd_film_hold", 0.5)
    fill(page, "taesd_film_side", 128)
    page.click("#taesd_film_save")
    wait_for_words(page, "#taesd_film_result", f"{len(newest['frames'])} frames")
    with Image.open(io.BytesIO(downloaded(page, "taesd_film_file"))) as film:
        assert (film.format, film.size, film.n_frames) == ("WEBP", (128, 128), len(newest["frames"]))
    choose(page, "taesd_film_kind", "gif")
    page.click("#taesd_film_save")
    page.wait_for_function("document.querySelector('#taesd_film_file').innerText.includes('.gif')")
    shot(page, tmp_path, "timeline")


def test_the_timeline_is_up_to_date_when_one_comes_back(page, webui):
    open_panel(page, "Timeline")
    page.wait_for_selector(".taesd-ext-strip button")
    before = chosen(page, "taesd_job")
    generate_in_page(page, steps=16, side=320)  # a second and more: the page asks once a second
    wait_for_picture(page)
    go_to(page, "TAESD", "#tabs")
    page.wait_for_function("before => document.querySelector('#taesd_job input').value !== before", arg=before)
    assert chosen(page, "taesd_job").startswith(f"job {jobs(webui)[0]['id']} ")
    page.wait_for_function("document.querySelector('.taesd-ext-film figcaption').innerText.includes('/16')")


def test_the_last_picture_is_decoded_again_and_saved(page, webui, tmp_path):
    open_panel(page, "Re-decode")
    page.wait_for_function("document.querySelector('#taesd_again_kept input').value.includes('128x128')")
    page.click("#taesd_again")
    page.wait_for_selector("#taesd_again_shown img")
    choose(page, "taesd_again_decoder", "taesd")
    page.click("#taesd_again")
    page.wait_for_selector("#taesd_again_shown .taesd-ext-slider")
    shot(page, tmp_path, "final")
    page.click("#taesd_again_save")
    line = wait_for_words(page, "#taesd_again_result", "Saved as ")
    saved = line.partition("Saved as ")[2].strip().removesuffix(".")
    with Image.open(webui.data / saved) as again:  # a path as the host writes it
        assert again.size == (128, 128)
        assert "VAE Decoder: TAESD" in again.info["parameters"]
        assert "Decoded again: yes" in again.info["parameters"]
    page.click("#taesd_again_refresh")


def test_the_benchmark_measures_and_stops(page, tmp_path):
    open_panel(page, "Benchmark")
    choose(page, "taesd_bench_side", "256")
    page.click("#taesd_bench_run")
    wait_for_words(page, "#taesd_bench_progress", "taesd on cpu")
    assert page.locator("#taesd_bench_result .taesd-ext-bar-cell").count() >= 4
    assert "ms" in page.inner_text("#taesd_bench_result table")
    shot(page, tmp_path, "benchmark")
    choose(page, "taesd_bench_side", "1024")
    page.click("#taesd_bench_run")
    page.wait_for_selector("#taesd_bench_progress [role=progressbar]")
    page.click("#taesd_bench_cancel")
    wait_for_words(page, "#taesd_bench_progress", "Cancelled")
