"""The TAESD tab of a real WebUI: what it has to do with the host, and every tab looked at.

What is the same without a WebUI is in test_playground_browser.py.
"""

import pytest
from chromium import (
    PHONE,
    WIDE,
    choose,
    chosen,
    fill,
    go_to,
    is_wider_than_screen,
    keep_shot,
    open_panel,
    remove_file,
    wait_for_words,
)
from PIL import Image
from safetensors.torch import save_file
from webui_page import (
    COMBINATIONS,
    NAMES,
    ask,
    generate_in_page,
    jobs,
    kinds_of,
    settings,
    wait_for_picture,
    webui_window,
)
from webui_server import link_weights

from taesd_ext.models.tiny import Decoder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TABS = ("Models", "Settings", "Compare", "Latents", "Timeline", "Re-decode", "Benchmark")
TABLE, STATUS, RESULT = "#taesd_models_table", "#taesd_models_status", "#taesd_models_result"


@pytest.fixture(scope="module")
def base_line(new_server, browser) -> set[str]:
    """What the console says of a host without the extension, used likewise."""
    with new_server(ours=False) as bare, webui_window(browser, bare) as page:
        generate_in_page(page)
        wait_for_picture(page)
        go_to(page, "img2img", "#tabs")
        go_to(page, "Settings", "#tabs")
        print(f"\nconsole without the extension: {page.errors}")
        return kinds_of(page.errors)


@pytest.fixture(params=COMBINATIONS, ids=NAMES)
def page(request, browser, webui, base_line):
    size, scheme = request.param
    with webui_window(browser, webui, size, scheme) as page:
        yield page
        assert not is_wider_than_screen(page)
        assert kinds_of(page.errors) <= base_line


def test_a_model_that_is_loaded_later_is_noticed(browser, webui, base_line):
    if ask(webui, "/status")["model"] is not None:
        pytest.skip("this host loads its model at the start")  # Forge does with the first picture
    with webui_window(browser, webui) as page:
        open_panel(page, "Models")
        wait_for_words(page, STATUS, "No model is loaded yet")
        webui.generate(steps=2)
        assert "which uses taesd" in wait_for_words(page, STATUS, "The loaded model is Stable Diffusion 1")
        assert kinds_of(page.errors) <= base_line


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_every_tab_is_fit_to_be_seen(browser, webui, base_line, tmp_path, size, scheme):
    webui.generate(steps=6)
    with webui_window(browser, webui, size, scheme) as page:
        background = page.evaluate("getComputedStyle(document.body).getPropertyValue('--body-background-fill')")
        for tab in TABS:
            open_panel(page, tab)
            page.wait_for_timeout(1500)
            keep_shot(page, tmp_path, f"{tab.replace(' ', '-')}-{size[0]}-{scheme}", "#tab_taesd_ext")
            assert not is_wider_than_screen(page), tab
            # Nothing is cut off at the right but by what can be scrolled.
            assert page.evaluate(
                "[...document.querySelectorAll('#tab_taesd_ext button, #tab_taesd_ext input[type=number]')]"
                ".filter(e => e.offsetParent && !e.closest('.taesd-ext-scroll, .taesd-ext-strip'))"
                ".every(e => e.getBoundingClientRect().right <= innerWidth + 1)"
            ), tab
        assert background
        assert kinds_of(page.errors) <= base_line


def test_the_models_page_says_what_is_there_and_why(page, webui):
    webui.generate(steps=2)  # Forge loads its checkpoint with the first picture
    open_panel(page, "Models")
    assert "which uses taesd" in wait_for_words(page, STATUS, "The loaded model is")
    words = wait_for_words(page, TABLE, "shipped")
    assert "taesd_decoder.safetensors" in words
    assert "missing" in words
    # What is wrong is said with its cure: these tests forbid downloads.
    assert "unset it" in wait_for_words(page, "#taesd_findings", "HF_HUB_OFFLINE is set")
    page.click("#taesd_report .label-wrap")
    page.click("#taesd_report_make")
    report = page.locator("#taesd_report_text textarea")
    page.wait_for_function("document.querySelector('#taesd_report_text textarea').value.includes('Versions:')")
    assert "taesd: encoder taesd_encoder" in report.input_value()


def test_the_loaded_model_is_followed_while_the_page_is_open(page, webui):
    open_panel(page, "Models")
    wait_for_words(page, STATUS, "The loaded model is Stable Diffusion 1")
    names = [model["model_name"] for model in webui.call("/sdapi/v1/sd-models")]
    other = next((name for name in names if "xl" in name), None)
    if other is None:
        pytest.skip("this host has one checkpoint only")
    before = webui.call("/sdapi/v1/options")["sd_model_checkpoint"]
    try:
        webui.set_options(sd_model_checkpoint=other)
        webui.generate(steps=2)
        assert "taesdxl" in wait_for_words(page, STATUS, "SDXL")
    finally:
        webui.set_options(sd_model_checkpoint=before)
        webui.generate(steps=2)
    wait_for_words(page, STATUS, "The loaded model is Stable Diffusion 1")


def test_files_are_removed_from_and_added_to_the_hosts_folder(page, webui, shared, tmp_path):
    place = webui.data / "models" / "VAE-taesd" / "taesd3_decoder.safetensors"
    open_panel(page, "Models")
    wait_for_words(page, TABLE, "taesd3_decoder")
    try:
        choose(page, "taesd_file", "taesd3_decoder")
        remove_file(page)
        wait_for_words(page, RESULT, "was removed")
        assert not place.exists()

        broken, mine = tmp_path / "broken.safetensors", tmp_path / "mine for sd3.safetensors"
        broken.write_bytes(b"<html>log in</html>")
        page.set_input_files("#taesd_own_file input[type=file]", broken)
        wait_for_words(page, RESULT, "broken.safetensors was not")
        page.locator("#taesd_own_file").locator("[aria-label=Clear], [aria-label=Remove]").first.click()
        save_file(Decoder(16).state_dict(), mine)
        page.set_input_files("#taesd_own_file input[type=file]", mine)
        wait_for_words(page, RESULT, "Added as taesd3_decoder.safetensors")
        assert place.is_file()
        wait_for_words(page, TABLE, "not yet")  # its reduced detail is still to be learnt
    finally:
        place.unlink(missing_ok=True)
        link_weights(shared, webui.data)
    page.click("#taesd_models_refresh")
    wait_for_words(page, TABLE, "taesd3_decoder")


def test_vaes_for_the_hosts_own_setting(page, webui, tmp_path):
    open_panel(page, "Models")
    if not page.locator("#taesd_host_vaes").count():
        pytest.skip("this host has no SD VAE setting")
    page.click("#taesd_host_vaes .label-wrap")
    page.click("#taesd_host_vae_quick")
    wait_for_words(page, "#taesd_host_vae_result", "SD VAE")
    assert "sd_vae" in webui.call("/sdapi/v1/options")["quicksettings_list"]
    choose(page, "taesd_host_vae", "sd-vae-ft-ema")
    page.click("#taesd_host_vae_get")
    wait_for_words(page, "#taesd_host_vae_result", "HF_HUB_OFFLINE is set")
    page.click("#taesd_host_vae_cancel")
    tiny = tmp_path / "tiny.safetensors"
    save_file(Decoder(4).state_dict(), tiny)
    page.set_input_files("#taesd_host_vae_file input[type=file]", tiny)
    wait_for_words(page, "#taesd_host_vae_result", "was not")


def test_settings_are_the_hosts_own_both_ways(page, webui):
    chosen_now = {"family": "taesd3", "detail": "1/4", "frame_format": "webp", "device": "CPU",
                  "decode_failure": "full VAE", "final_vae": "TAESD"}  # fmt: skip
    filled = {"interval": 3, "min_time": 250, "skip_last": 2, "max_side": 640, "budget": 7}
    unchecked = dict.fromkeys(("badge", "timeline", "keep_latents"), False)
    wanted = chosen_now | filled | unchecked
    open_panel(page, "Settings")
    page.click("#taesd_advanced .label-wrap")
    for name, choice in chosen_now.items():
        choose(page, f"taesd_option_{name}", choice)
    for name, number in filled.items():
        fill(page, f"taesd_option_{name}", number)
    for name in unchecked:
        page.locator(f"#taesd_option_{name} input[type=checkbox]").uncheck()
    page.wait_for_timeout(1500)
    assert {name: settings(webui)[name] for name in wanted} == wanted
    # The host sends every setting as its own page shows it, and knows that page's values from when it was loaded.
    go_to(page, "Settings", "#tabs")
    page.click("#settings_submit")
    wait_for_words(page, "#settings_result", "settings changed")
    assert {name: settings(webui)[name] for name in wanted} == wanted
    # The other way round: changed elsewhere, it is seen when one comes back to the tab.
    webui.set_options(taesd_ext_detail="1/2")
    go_to(page, "TAESD", "#tabs")
    page.wait_for_function("document.querySelector('#taesd_option_detail input').value === '1/2'")
    assert chosen(page, "taesd_option_family") == "taesd3"


def test_settings_show_what_previews_cost_and_look_like(page, webui, tmp_path):
    webui.generate(steps=8)
    open_panel(page, "Settings")
    wait_for_words(page, "#taesd_cost", "at detail full")
    page.click("#taesd_show_details")
    page.wait_for_selector("#taesd_detail_samples img")
    assert page.locator("#taesd_detail_samples img").count() == 4
    page.click("#taesd_settings_refresh")
    keep_shot(page, tmp_path, f"details-{page.viewport_size['width']}", "#tab_taesd_ext")


def test_the_timeline_is_up_to_date_when_one_comes_back(page, webui):
    webui.generate(steps=6)
    open_panel(page, "Timeline")
    page.wait_for_selector(".taesd-ext-strip button")
    before = chosen(page, "taesd_job")
    generate_in_page(page, steps=16, side=320)  # a second and more: the page asks once a second
    wait_for_picture(page)
    go_to(page, "TAESD", "#tabs")
    page.wait_for_function("before => document.querySelector('#taesd_job input').value !== before", arg=before)
    assert chosen(page, "taesd_job").startswith(f"job {jobs(webui)[0]['id']} ")
    page.wait_for_function("document.querySelector('.taesd-ext-film figcaption').innerText.includes('/16')")


def test_the_last_picture_is_decoded_again_and_saved(page, webui):
    webui.generate(steps=6)
    open_panel(page, "Re-decode")
    page.wait_for_function("document.querySelector('#taesd_again_kept input').value.includes('128x128')")
    page.click("#taesd_again")
    page.wait_for_selector("#taesd_again_shown img")
    choose(page, "taesd_again_decoder", "taesd")
    page.click("#taesd_again")
    page.wait_for_selector("#taesd_again_shown .taesd-ext-slider")
    page.click("#taesd_again_save")
    line = wait_for_words(page, "#taesd_again_result", "Saved as ")
    saved = line.partition("Saved as ")[2].strip().removesuffix(".")
    with Image.open(webui.data / saved) as again:  # a path as the host writes it
        assert again.size == (128, 128)
        assert "VAE Decoder: TAESD" in again.info["parameters"]
        assert "Decoded again: yes" in again.info["parameters"]
    page.click("#taesd_again_refresh")
