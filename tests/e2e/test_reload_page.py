"""Reload UI of a real WebUI after the page that started long work was closed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import choose, open_panel
from misbehaving_server import serving
from PIL import Image
from webui_page import webui_window
from webui_server import link_weights

from taesd_ext.codec.latent_file import latent_bytes
from taesd_ext.codec.latent_note import note_for
from taesd_ext.latent_formats import BY_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Prepare = Callable[[Any, Path], None]
"""(page, folder with picture.png and latent.safetensors): what a person does before pressing the button."""


def nothing(page: Any, files: Path) -> None:
    """The button alone."""


def upload(elem_id: str, name: str) -> Prepare:
    def prepare(page: Any, files: Path) -> None:
        page.set_input_files(f"#{elem_id} input[type=file]", files / name)
        page.wait_for_selector(f"#{elem_id} :is(img, .file-preview, .file-preview-holder, .file)")

    return prepare


def every_codec(page: Any, files: Path) -> None:
    page.wait_for_selector("#taesd_compare_codecs input")
    upload("taesd_compare_picture", "picture.png")(page, files)
    for box in page.locator("#taesd_compare_codecs input").all():
        box.set_checked(True)


def filled(elem_id: str) -> Prepare:
    def prepare(page: Any, files: Path) -> None:
        page.wait_for_function(f"document.querySelector('#{elem_id} input').value !== ''")

    return prepare


def first_file(page: Any, files: Path) -> None:
    page.wait_for_selector("#taesd_models_table table")
    page.locator("#taesd_file input").first.click()
    page.locator("[role=option]:visible, #taesd_file li:visible").first.click()


def wish(page: Any, files: Path) -> None:
    """As the button beside the live preview does, for the first step of the newest job."""
    job = page.evaluate("fetch('./taesd/v1/timeline').then(answer => answer.json()).then(jobs => jobs[0].id)")
    page.evaluate(
        """words => {
            const field = document.querySelector("#taesd_live_moment_wanted :is(textarea, input)");
            field.value = words;
            field.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        f"{job}/1/1",
    )


ACTIONS: dict[str, tuple[str, str, Prepare]] = {
    "taesd_get": ("Models", "taesd_get", nothing),
    "taesd_download": ("Models", "taesd_download", nothing),
    "taesd_download_all": ("Models", "taesd_download_all", nothing),
    "taesd_verify": ("Models", "taesd_verify", first_file),
    "taesd_host_vae_get": ("Models", "taesd_host_vae_get", lambda page, _: page.click("#taesd_host_vaes .label-wrap")),
    "taesd_show_details": ("Settings", "taesd_show_details", nothing),
    "taesd_compare": ("Compare", "taesd_compare_run", every_codec),
    "taesd_encode": ("Latents", "taesd_encode", upload("taesd_latent_source", "picture.png")),
    "taesd_decode": ("Latents", "taesd_decode", upload("taesd_latent_stored", "latent.safetensors")),
    "taesd_film_save": ("Timeline", "taesd_film_save", filled("taesd_job")),
    "taesd_moment": ("Timeline", "taesd_moment", filled("taesd_moment_decoder")),
    "taesd_live_moment": ("Timeline", "", wish),
    "taesd_again": ("Re-decode", "taesd_again", filled("taesd_again_decoder")),
    "taesd_bench": ("Benchmark", "taesd_bench_run", lambda page, _: choose(page, "taesd_bench_side", "1024")),
}
"""Name of each long action: the panel's tab, the button if it is one's, and what comes before."""

DOWNLOADS = {"taesd_get", "taesd_download", "taesd_download_all", "taesd_host_vae_get"}
OF_A_JOB = {"Settings", "Timeline", "Re-decode"}
ONLY_WITH_SD_VAE = "taesd_host_vae_get"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    Image.linear_gradient("L").resize((1024, 1024)).convert("RGB").save(folder / "picture.png")
    latent = torch.zeros(1, 4, 128, 128)
    note = note_for(latent, "taesd", BY_NAME["sd1"], (1024, 1024))
    (folder / "latent.safetensors").write_bytes(latent_bytes(".safetensors", latent, note))
    return folder


@pytest.fixture
def without_weights(webui, shared):
    """The first family's files are missing, and come from a slow server."""
    for path in (webui.data / "models" / "VAE-taesd").glob("taesd_*"):
        path.unlink()
    webui.call("/faults/forget", {})
    with serving(bytes(2**21)) as server:
        webui.call("/faults/set", {"source": server.url("dribble")})
        yield
    webui.call("/faults/set", {})
    link_weights(shared, webui.data)


def test_every_long_action_is_in_the_table(browser, webui):
    with webui_window(browser, webui) as page:
        polls = page.locator("button[id$=_poll]").evaluate_all("all => all.map(button => button.id)")
    expected = set(ACTIONS) - (set() if webui.host.has_sd_vae else {ONLY_WITH_SD_VAE})
    assert {poll.removesuffix("_poll") for poll in polls} == expected


@pytest.mark.parametrize("action", ACTIONS)
def test_reload_ui_after_a_page_was_closed(browser, webui, files, request, action):
    tab, button, prepare = ACTIONS[action]
    if action == ONLY_WITH_SD_VAE and not webui.host.has_sd_vae:
        pytest.skip("this host has no setting of the VAE")
    if tab in OF_A_JOB:
        assert webui.generate(width=256, height=256).error is None
    if action in DOWNLOADS:
        request.getfixturevalue("without_weights")
    with webui_window(browser, webui) as page:
        open_panel(page, tab)
        prepare(page, files)
        if button:
            page.click(f"#{button}")
        page.wait_for_selector(f"[data-poll={action}_poll]", state="attached")
        page.goto("about:blank")
    began = time.perf_counter()
    webui.reload_ui()
    print(f"\n{action}: Reload UI took {time.perf_counter() - began:.1f} s")
    assert "taesd_ext work" not in webui.call("/faults/state")["threads"]
