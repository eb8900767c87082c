"""Make the README's pictures against a running WebUI that has the extension and TAESD's weights.

    python docs/make_pictures.py http://127.0.0.1:7860 [--prompt TEXT] [--side 512] [--steps 20]

Start the WebUI with --api. Needs playwright and Chromium. The settings that are changed for it are put back.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
SETTINGS = {
    "show_progress_type": "TAESD", "show_progress_every_n_steps": 1, "live_preview_refresh_period": 200,
    "taesd_ext_min_time": 0, "taesd_ext_budget": 3, "taesd_ext_detail": "Auto", "taesd_ext_family": "Auto",
}  # fmt: skip

SHORTER_PATHS = """() => {
    const texts = document.createTreeWalker(document.querySelector('#tab_taesd_ext'), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode;
        text.data = text.data.replace(/[/][^ ,]*[/](models|[.]cache)[/]/g, '$1/');
    }
    for (const input of document.querySelectorAll('#tab_taesd_ext input')) {
        if (input.type === 'text') input.value = input.value.replace(/^[/].*[/]models[/]/, 'models/');
    }
}"""
"""Whose machine it was is nobody's business."""


class WebUI:
    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=1800) as answer:
            return json.loads(answer.read())

    def fetch(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=600) as answer:
            return answer.read()


def save(data: bytes, name: str, width: int = 1200) -> None:
    """A screenshot as a small WebP."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.save(HERE / f"{name}.webp", quality=82, method=6)
    print(f"{name}.webp: {picture.width}x{picture.height}, {(HERE / f'{name}.webp').stat().st_size:,} bytes")


def generate_in_page(page: Page, arguments: argparse.Namespace) -> None:
    """Press Generate and take the page while the live preview runs."""
    page.fill("#txt2img_prompt textarea", arguments.prompt)
    for name, value in (("steps", arguments.steps), ("width", arguments.side), ("height", arguments.side)):
        page.locator(f"#txt2img_{name} input[type=number]").fill(str(value))
        page.keyboard.press("Tab")
    page.locator("#txt2img_seed input[type=number]").fill(str(arguments.seed))
    page.click("#txt2img_generate")
    half = max(1, arguments.steps * 3 // 5)
    page.wait_for_function(
        "step => { const badge = document.querySelector('.taesd-ext-live:not([hidden])');"
        " return badge && parseInt(badge.textContent) >= step; }",
        arg=half,
    )
    save(page.screenshot(), "live-preview")
    page.wait_for_selector(".livePreview", state="detached")


def take_tabs(page: Page) -> None:
    page.locator("#tabs > .tab-nav button:text-is('TAESD')").click()
    for tab, name in (("Models", "models"), ("Settings", "settings"), ("Timeline", "timeline")):
        page.locator(f"#taesd_tabs > .tab-nav button:text-is('{tab}')").click()
        page.wait_for_timeout(2000)
        page.evaluate(SHORTER_PATHS)
        save(page.locator("#tab_taesd_ext").screenshot(), name)


def preview_and_final(webui: WebUI, arguments: argparse.Namespace) -> None:
    """A preview from the middle of the run, and the finished picture."""
    body = {
        "prompt": arguments.prompt, "seed": arguments.seed, "steps": arguments.steps, "width": arguments.side,
        "height": arguments.side,
    }  # fmt: skip
    job = webui.ask("/taesd/v1/timeline")[0]
    middle = job["frames"][len(job["frames"]) * 3 // 5]
    shown = [webui.fetch(f"/taesd/v1/timeline/{job['id']}/frames/{middle['number']}")]
    final = webui.ask("/sdapi/v1/txt2img", {**body, "override_settings": {"sd_vae_decode_method": "TAESD"}})
    shown.append(base64.b64decode(final["images"][0]))
    side = 384
    sheet = Image.new("RGB", (side * len(shown) + 8 * (len(shown) - 1), side), "white")
    for place, data in enumerate(shown):
        picture = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(picture, (place * (side + 8), 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    save(buffer.getvalue(), "preview-and-final")


def animation(webui: WebUI) -> None:
    job = webui.ask("/taesd/v1/timeline")[0]
    data = webui.fetch(f"/taesd/v1/timeline/{job['id']}/animation?kind=webp&length=3&hold=2&side=384")
    (HERE / "animation.webp").write_bytes(data)
    print(f"animation.webp: {len(data):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address", help="of the WebUI, http://127.0.0.1:7860")
    parser.add_argument("--prompt", default="a lake in the mountains at sunset")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    webui = WebUI(arguments.address)
    before = {name: value for name, value in webui.ask("/sdapi/v1/options").items() if name in SETTINGS}
    webui.ask("/sdapi/v1/options", SETTINGS)
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(1_800_000)
            page.goto(webui.address)
            page.wait_for_selector("#txt2img_generate", state="visible")
            page.wait_for_timeout(3000)
            generate_in_page(page, arguments)
            take_tabs(page)
            browser.close()
        animation(webui)
        preview_and_final(webui, arguments)
    finally:
        webui.ask("/sdapi/v1/options", before)


if __name__ == "__main__":
    main()
