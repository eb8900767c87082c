"""Every moment of a generation in a real WebUI is kept, and its picture is that of the sampler's latent."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from chromium import choose, go_to, is_wider_than_screen, keep_shot, open_panel, wait_for_value, wait_for_words
from PIL import Image
from safetensors.torch import load, save_file
from webui_page import COMBINATIONS, NAMES, generate_in_page, wait_for_picture, webui_window
from webui_server import HIRES, levels_apart

from taesd_ext.host.preview_step import LABEL

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MOMENTS = "/taesd/v1/timeline/{job}/moments"


def newest(webui) -> int:
    return webui.call("/taesd/v1/timeline")[0]["id"]


def moments(webui) -> list[dict]:
    """Of the newest job, oldest first."""
    return webui.call(MOMENTS.format(job=newest(webui)))[::-1]


def fetched(webui, moment: dict, what: str) -> bytes:
    path = f"{MOMENTS.format(job=newest(webui))}/{moment['step']}/{what}?picture={moment['picture']}"
    return webui.fetch(path)


def full_picture(webui, moment: dict) -> Image.Image:
    """By the host's own VAE."""
    return Image.open(io.BytesIO(fetched(webui, moment, "picture")))


def hosts_picture(webui, latent: torch.Tensor) -> np.ndarray:
    """The host's own decode of a latent of one picture, (H,W,3) uint8 as it saves it."""
    save_file({"latent": latent.contiguous()}, webui.data / "latents" / "wanted.safetensors")
    return np.asarray(webui.call("/probe/decode", {}), dtype=np.uint8)


@pytest.mark.parametrize(("request_", "batches", "pictures", "sides"), [
    ({"width": 512, "height": 512, "steps": 3}, 1, 1, [512] * 3),
    ({**HIRES, "hr_upscaler": "Latent", "steps": 6}, 1, 1, [128] * 6 + [256] * 6),
    ({"batch_size": 2, "n_iter": 2, "steps": 6}, 2, 2, [128] * 12),
], ids=["txt2img", "hires fix", "batch 2x2"])  # fmt: skip
def test_every_moment_is_there_and_is_the_samplers(webui, request_, batches, pictures, sides):
    result = webui.generate(**request_)
    assert result.error is None
    kept, seen = moments(webui), webui.predictions()
    steps = [moment for moment in kept if moment["step"]]

    assert sorted({moment["step"] for moment in steps}) == list(range(1, len(sides) + 1))
    assert [moment["width"] for moment in steps[::pictures]] == sides
    assert len(steps) == pictures * len(sides)
    assert sum(moment["step"] == 0 for moment in kept) == batches * pictures

    for moment in (steps[len(steps) // 2], steps[-1]):
        latent = seen[moment["step"] - 1][(moment["picture"] - 1) % pictures][None].half().float()
        (tensor,) = load(fetched(webui, moment, "latent")).values()
        assert torch.equal(tensor.float().reshape(latent.shape), latent)
        assert levels_apart(full_picture(webui, moment), hosts_picture(webui, latent)) == 0


def test_a_finished_picture_again_is_the_finished_picture(webui):
    result = webui.generate(batch_size=2)
    finished = [moment for moment in moments(webui) if moment["step"] == 0]
    for moment in finished:
        # The host cuts to bytes and we round.
        assert levels_apart(full_picture(webui, moment), result.images[-3 + moment["picture"]]) <= 1


def test_interrupt_at_half_shows_what_was_predicted(webui):
    """A1111 does so by itself; the option makes every host do it."""
    webui.set_options(taesd_ext_interrupted=True)

    def interrupt(server, number):
        if number == 4:
            server.call("/sdapi/v1/interrupt", {})

    result = webui.generate(steps=60, at_frame=interrupt)
    seen = webui.predictions()
    kept = [moment for moment in moments(webui) if moment["step"]]
    assert 4 <= len(kept) < 60
    assert kept[-1]["step"] == len(seen)
    assert levels_apart(result.images[0], hosts_picture(webui, seen[-1].half().float())) <= 1


def test_the_same_seed_gives_the_same_picture_with_and_without(webui):
    pictures = []
    for kept in (True, False):
        webui.set_options(taesd_ext_keep_latents=kept, taesd_ext_timeline=kept)
        pictures.append(webui.generate(steps=10).images[0].tobytes())
    assert webui.call("/taesd/v1/timeline") == []
    assert pictures[0] == pictures[1]


def test_a_saved_moment_carries_the_jobs_parameters(webui):
    result = webui.generate(steps=6)
    moment = next(moment for moment in moments(webui) if moment["step"] == 3)
    path = f"{MOMENTS.format(job=newest(webui))}/{moment['step']}/save?picture=1"
    saved = webui.call(path, {})
    (file,) = webui.data.rglob(saved["file"])
    parameters = Image.open(file).text["parameters"]
    assert "Preview step: 3/6" in parameters
    assert parameters.startswith(result.infotexts[0].split(", Version")[0])
    info = webui.call("/sdapi/v1/png-info", {"image": base64.b64encode(file.read_bytes()).decode()})
    assert info["parameters"]["Preview step"] == "3/6"


def test_the_plots_axis_makes_pictures_of_one_sampling_run(webui):
    scripts = webui.call("/sdapi/v1/script-info")
    (plot,) = (row["args"] for row in scripts if row["name"] == "x/y/z plot" and not row["is_img2img"])
    wanted = {"X values": "2, 4, 6", "X type": plot[0]["choices"].index(LABEL), "Y type": 0, "Z type": 0,
              "Include Sub Images": True, "Draw legend": False}  # fmt: skip
    arguments = [wanted.get(argument["label"], argument["value"]) for argument in plot]
    before = {job["id"] for job in webui.call("/taesd/v1/timeline")}
    result = webui.generate(steps=6, script_name="x/y/z plot", script_args=arguments)
    assert result.error is None
    (job,) = {job["id"] for job in webui.call("/taesd/v1/timeline")} - before
    kept = {moment["step"]: moment for moment in moments(webui)}
    assert sorted(kept) == [0, *range(1, 7)], f"job {job} alone was sampled"
    for step, picture in zip((2, 4, 6), result.images[1:], strict=True):
        assert levels_apart(picture, full_picture(webui, kept[step])) <= 1


def wait_in_img2img(page, host) -> None:
    """Until the picture and its parameters have come."""
    page.wait_for_selector("#img2img_image img")
    page.wait_for_function("document.querySelector('#img2img_cfg_scale input').value === '4'")
    if host.pastes_prompt:
        page.wait_for_function("document.querySelector('#img2img_prompt textarea').value === 'scene'")


def test_a_moment_is_decoded_saved_and_sent_on_in_the_page(browser, webui, host_row, tmp_path):
    webui.generate(width=256, height=256, steps=8, seed=7)
    with webui_window(browser, webui) as page:
        open_panel(page, "Timeline")
        page.wait_for_selector(".taesd-ext-strip button")
        page.wait_for_function("document.querySelector('#taesd_moment_decoder input').value !== ''")
        frame = page.locator("#taesd_film [data-frame]").nth(2)
        step = frame.inner_text().partition("/")[0]
        frame.click()
        wait_for_value(page, "taesd_moment_kept", f", {step} ")
        keep_shot(page, tmp_path, "moment-1-seen")
        page.click("#taesd_moment")
        page.wait_for_selector("#taesd_moment_shown img")
        keep_shot(page, tmp_path, "moment-2-full-picture")
        page.click("#taesd_moment_save")
        wait_for_words(page, "#taesd_moment_result", "Saved as ")
        keep_shot(page, tmp_path, "moment-3-saved")
        page.click("#taesd_moment_to_img2img")
        wait_in_img2img(page, host_row)
        keep_shot(page, tmp_path, "moment-4-in-img2img")
        assert page.locator("#img2img_seed input").first.input_value() == "7"
        assert page.locator("#img2img_steps input[type=number]").input_value() == "8"


@pytest.mark.parametrize(("size", "scheme"), COMBINATIONS, ids=NAMES)
def test_what_the_live_preview_shows_comes_in_full_in_its_turn(browser, webui, host_row, tmp_path, size, scheme):
    box = "#taesd_live_moment"
    with webui_window(browser, webui, size, scheme) as page:
        generate_in_page(page, steps=150, side=256)
        page.wait_for_function("parseInt(document.querySelector('.taesd-ext-live')?.textContent) >= 3")
        page.click(".taesd-ext-live-button[title*='in full']")
        step = re.search(r"Step (\d+)/150", wait_for_words(page, f"{box}_result", "waiting"))[1]
        keep_shot(page, tmp_path, f"live-moment-waits-{size[0]}")
        assert page.locator(".livePreview").count(), "the job goes on"
        assert not is_wider_than_screen(page)
        page.click("#txt2img_interrupt")
        wait_for_picture(page)
        wait_for_words(page, f"{box}_shown", f"step {step}")
        page.click(f"{box}_save")
        (saved,) = webui.data.rglob(wait_for_words(page, f"{box}_result", "Saved as ").rpartition("/")[2].rstrip(". "))
        keep_shot(page, tmp_path, f"live-moment-{size[0]}")
        assert f"Preview step: {step}/150" in Image.open(saved).text["parameters"]
        page.click(f"{box}_to_img2img")
        wait_in_img2img(page, host_row)
        go_to(page, "txt2img", "#tabs")
        page.click("#image_buttons_txt2img .taesd-ext-again")  # the finished one, beside that moment
        page.wait_for_function(f"document.querySelectorAll('{box}_shown span').length === 2")
        choose(page, f"{box[1:]}_decoder", "taesd")
        wait_for_words(page, f"{box}_shown", "taesd")
        page.check(f"{box}_difference input")
        wait_for_words(page, f"{box}_shown", "difference to")
        keep_shot(page, tmp_path, f"live-moment-difference-{size[0]}")
        page.click(f"{box}_close")
        page.wait_for_selector(box, state="hidden")
