"""Make the README's pictures in a real WebUI, which is started for it.

    PYTHONPATH=.:tests:tests/e2e WEBUI_DIR=/path/to/a1111 WEBUI_PYTHON=/path/to/its/python \\
        python docs/make_pictures.py PHOTOGRAPH --shared FOLDER [--only moment]

Its model is a stand-in that knows the one PHOTOGRAPH (tests/e2e/probe_extension/scripts/one_picture.py) and gets there
from noise; all else is as it always is. FOLDER has the weights and the tests' checkpoints. Needs playwright,
Chromium and a font with emoji.
"""

import argparse
import io
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chromium import choose, open_panel, running_chromium, wait_for_words, window
from PIL import Image
from safetensors.torch import save_file
from webui_hosts import host_of, put_checkpoints
from webui_server import WebUIServer, link_weights

from taesd_ext import load_codec
from taesd_ext.ui.live_moment import ELEM_ID as LIVE_MOMENT

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
SETTINGS = {
    "show_progress_type": "TAESD", "show_progress_every_n_steps": 1, "live_preview_refresh_period": 200,
    "sd_vae_decode_method": "TAESD", "taesd_ext_min_time": 0, "taesd_ext_budget": 3, "taesd_ext_detail": "Auto",
    "taesd_ext_family": "Auto",
}  # fmt: skip
SIDE, STEPS = 384, 16
STEP_SECONDS = 2.5
"""Of waiting in each step, as a model takes it that is no stand-in."""

WINDOW, TALL = (1100, 760), (1100, 1380)
FILMED = {"x": 0, "y": 0, "width": 1100, "height": 720}
"""Of the page; what lies below says no more."""

FILM_WIDTH, FRAME_MS, LAST_MS = 880, 200, 3000
SHOT_MS = 2500
SECOND_SCREEN = {"width": 1920, "height": 1080}
BADGE = ".taesd-ext-live:not([hidden])"
LIVE_MOMENT_BUTTON = ".taesd-ext-live-button[title*='in full']"
PICTURES = ("page", "moment", "second-screen")

SHORTER_PATHS = """() => {
    const texts = document.createTreeWalker(document.querySelector('#tabs'), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode;
        text.data = text.data.replace(/[/][^ ,]*[/](models|[.]cache|outputs)[/]/g, '$1/');
    }
    for (const input of document.querySelectorAll('#tab_taesd_ext input')) {
        if (input.type === 'text') input.value = input.value.replace(/^[/].*[/]models[/]/, 'models/');
    }
}"""
"""Whose machine it was is nobody's business."""


def save(data: bytes, name: str, width: int = 1200) -> None:
    """A screenshot as a small WebP."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture = scaled(picture, width) if picture.width > width else picture
    picture.save(HERE / f"{name}.webp", quality=82, method=6)
    print(f"{name}.webp: {picture.width}x{picture.height}, {(HERE / f'{name}.webp').stat().st_size:,} bytes")


def begin(page: Any, prompt: str) -> None:
    """Press Generate, and wait for the first preview."""
    page.fill("#txt2img_prompt textarea", prompt)
    for name, value in (("steps", STEPS), ("width", SIDE), ("height", SIDE), ("seed", 1)):
        page.locator(f"#txt2img_{name} input[type=number]").fill(str(value))
        page.keyboard.press("Tab")
    page.click("#txt2img_generate")
    page.wait_for_selector(BADGE)


def wait_for_step(page: Any, step: int) -> None:
    """Or for the end of the job."""
    page.wait_for_function(
        "([badge, step]) => !document.querySelector('.livePreview')"
        " || parseInt(document.querySelector(badge)?.textContent) >= step",
        arg=[BADGE, step],
    )


def generate_in_page(page: Any, prompt: str) -> None:
    """Take the page at each step and when the picture is finished."""
    begin(page, prompt)
    film = []
    for step in range(1, STEPS):
        wait_for_step(page, step)
        if page.locator(".livePreview").count():
            film.append(page.screenshot(clip=FILMED))
    page.wait_for_selector("#txt2img_gallery img")
    page.wait_for_selector(".livePreview", state="detached")
    film.append(page.screenshot(clip=FILMED))
    save(film[len(film) * 3 // 5], "live-preview")
    save_film(film, "animation", [*[FRAME_MS] * (len(film) - 1), LAST_MS])


def save_film(shots: list[bytes], name: str, milliseconds: list[int]) -> None:
    first, *others = (scaled(Image.open(io.BytesIO(data)).convert("RGB"), FILM_WIDTH) for data in shots)
    path = HERE / f"{name}.webp"
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, quality=70, method=6)
    print(f"{path.name}: {len(shots)} frames, {path.stat().st_size:,} bytes")


def scaled(picture: Image.Image, width: int) -> Image.Image:
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def take_tabs(page: Any) -> None:
    for tab, name, ready in (("Settings", "settings", "#taesd_cost"), ("Timeline", "timeline", "#taesd_film img")):
        open_panel(page, tab)
        page.wait_for_selector(ready)
        page.wait_for_timeout(2000)
        if tab == "Settings":
            page.click("#taesd_show_details")
            page.wait_for_selector("#taesd_detail_samples img")
            page.wait_for_timeout(500)
        page.evaluate(SHORTER_PATHS)
        save(page.locator("#tab_taesd_ext").screenshot(), name)


def prefer_taesd(page: Any, prompt: str) -> None:
    """For full pictures: the stand-in's own VAE never saw a photograph."""
    begin(page, prompt)
    page.wait_for_selector("#txt2img_gallery img")
    page.wait_for_selector(".livePreview", state="detached")
    page.click(".taesd-ext-again")
    page.wait_for_selector(f"#{LIVE_MOMENT}_shown img")
    choose(page, f"{LIVE_MOMENT}_decoder", "taesd")
    wait_for_words(page, f"#{LIVE_MOMENT}_shown", "taesd")
    page.click(f"#{LIVE_MOMENT}_close")


def take_moment(page: Any, prompt: str) -> None:
    """Seen on the way, asked for in full, saved, and sent to img2img."""
    begin(page, prompt)
    wait_for_step(page, STEPS * 5 // 8)
    shots = []

    def shoot() -> None:
        page.wait_for_timeout(500)
        page.evaluate(SHORTER_PATHS)
        shots.append(page.screenshot())

    page.hover(LIVE_MOMENT_BUTTON)
    shoot()
    page.click(LIVE_MOMENT_BUTTON)
    wait_for_words(page, f"#{LIVE_MOMENT}_result", "Step ")
    shoot()
    wait_for_words(page, f"#{LIVE_MOMENT}_shown", "step ")
    page.wait_for_selector(".livePreview", state="detached")
    shoot()
    page.click(f"#{LIVE_MOMENT}_save")
    wait_for_words(page, f"#{LIVE_MOMENT}_result", "Saved as ")
    shoot()
    page.click(f"#{LIVE_MOMENT}_to_img2img")
    page.wait_for_selector("#img2img_image img")
    page.wait_for_timeout(1500)
    page.evaluate("scrollTo(0, 0)")
    shoot()
    save_film(shots, "moment", [SHOT_MS] * len(shots))


def take_second_screen(browser: Any, server: WebUIServer, prompt: str) -> None:
    """While a client of the API generates."""
    page = browser.new_page(viewport=SECOND_SCREEN, color_scheme="dark")
    page.set_default_timeout(240_000)
    page.goto(f"http://127.0.0.1:{server.port}/taesd/preview")
    job = threading.Thread(
        target=server.generate, kwargs={"prompt": prompt, "steps": STEPS, "width": SIDE, "height": SIDE}
    )
    job.start()
    page.wait_for_function("step => Number(document.getElementById('film').max) >= step", arg=STEPS * 5 // 8)
    save(page.screenshot(), "second-screen", 800)
    server.call("/sdapi/v1/interrupt", {})
    job.join()
    page.close()


def latent_of(photograph: Path, shared: Path) -> torch.Tensor:
    picture = Image.open(photograph).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    return load_codec("taesd", models_dir=shared / "weights").encode(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photograph", type=Path, help="its name is the prompt")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of weights/ and webui/")
    parser.add_argument(
        "--only", nargs="+", choices=PICTURES, default=PICTURES, metavar="NAME", help=", ".join(PICTURES)
    )
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        checkpoints = Path(os.environ.get("TAESD_TEST_CHECKPOINTS", Path(folder, "checkpoints")))
        if not checkpoints.is_dir():
            put_checkpoints(host_of(Path(os.environ["WEBUI_DIR"])), wanted.shared, checkpoints)
        tokenizers = shutil.copytree(wanted.shared / "webui" / "hf", Path(folder, "hf"))
        link_weights(wanted.shared, data)
        save_file({"latent": latent_of(wanted.photograph, wanted.shared)}, data / "latent.safetensors")
        with WebUIServer(data, checkpoints, tokenizers) as server, running_chromium() as browser:
            server.choose_checkpoint("taesd")
            server.set_options(**SETTINGS)
            server.call("/one_picture/know", {"latent": str(data / "latent.safetensors")})
            server.call("/faults/set", {"slow": STEP_SECONDS})
            address, prompt = f"http://127.0.0.1:{server.port}", wanted.photograph.stem
            if "page" in wanted.only:
                with window(browser, address, WINDOW) as page:
                    generate_in_page(page, prompt)
                    take_tabs(page)
            if "moment" in wanted.only:
                with window(browser, address, TALL) as page:
                    server.call("/faults/set", {"slow": 0})
                    prefer_taesd(page, prompt)
                    server.call("/faults/set", {"slow": STEP_SECONDS})
                    take_moment(page, prompt)
            if "second-screen" in wanted.only:
                take_second_screen(browser, server, prompt)


if __name__ == "__main__":
    main()
