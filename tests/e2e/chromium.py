"""A headless Chromium on the pages of the WebUIs and of the playground, of gradio 3.41, 4 and 6."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install .[test]")

WIDE, PHONE = (1400, 1000), (400, 850)
"""Sizes of the window in pixels."""

SHOTS = "TAESD_TEST_SHOTS"
"""Environment variable with a folder for screenshots; without it they go to the test's own."""

_LOCAL = ("http://127.0.0.1", "data:", "blob:")
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def running_chromium() -> Iterator[Any]:
    """A running browser; skips where there is none."""
    if _CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@contextlib.contextmanager
def window(
    browser: Any, address: str, size: tuple[int, int] = WIDE, scheme: str = "light", ready: str = "#txt2img_generate",
    settled: bool = True, **arguments: Any,
) -> Iterator[Any]:  # fmt: skip
    """A page of its own, once ``ready`` is shown; ``page.errors`` is what its console reports.

    ``settled``: wait until it is listened to as well. Nothing but this machine is reached.
    """
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **arguments)
    context.route(lambda url: not url.startswith(_LOCAL), lambda route: route.abort())
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(f"uncaught: {error}"))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    try:
        page.goto(f"{address}/?__theme={scheme}", wait_until="domcontentloaded")
        page.wait_for_selector(ready, state="visible")
        if settled:
            settle(page)
        yield page
    finally:
        context.close()


def settle(page: Any) -> None:
    """gradio draws its fields before it listens to them: wait until it has stopped working for half a second."""
    page.evaluate(
        """() => new Promise(done => {
            let last = performance.now();
            new MutationObserver(() => { last = performance.now(); })
                .observe(document.body, { childList: true, subtree: true });
            const began = last;
            const look = () => {
                const now = performance.now();
                now - last > 500 && now - began > 1500 || now - began > 15000 ? done() : setTimeout(look, 100);
            };
            look();
        })"""
    )


def go_to(page: Any, name: str, bar: str = "") -> None:
    """Choose a tab by its title, also from the menu where a narrow page puts those without room."""
    words = re.compile(rf"^\s*{re.escape(name)}\s*$", re.IGNORECASE)  # Forge writes them large
    tab = page.locator(f"{bar} button[role=tab]").filter(has_text=words)
    tabs = tab if tab.count() else page.locator(f"{bar} .tab-nav button").filter(has_text=words)
    if tabs.count() and tabs.first.is_visible():
        tabs.first.click()
        return
    page.locator(f"{bar} .overflow-menu > button").first.click()
    page.locator(f"{bar} .overflow-dropdown button").filter(has_text=words).click()


def fill(page: Any, elem_id: str, value: object) -> None:
    """Type into a number or a slider's field."""
    number = page.locator(f"#{elem_id} input[type=number]")
    number.fill(str(value))
    number.press("Tab")


def choose(page: Any, elem_id: str, choice: str) -> None:
    """Take the first choice with these words from a dropdown."""
    page.locator(f"#{elem_id} input").first.click()
    page.locator(f"[role=option]:has-text('{choice}'):visible, li:has-text('{choice}'):visible").first.click()


def chosen(page: Any, elem_id: str) -> str:
    """What a dropdown shows."""
    return page.locator(f"#{elem_id} input").first.input_value()


def open_panel(page: Any, tab: str) -> None:
    """The TAESD tab of a WebUI, at one of its own tabs."""
    go_to(page, "TAESD", "#tabs")
    go_to(page, tab, "#taesd_tabs")


def wait_for_words(page: Any, selector: str, words: str) -> str:
    """Until these words are in the element; all of its words."""
    try:
        page.wait_for_function(
            "([selector, words]) => (document.querySelector(selector)?.innerText || '').includes(words)",
            arg=[selector, words],
        )
    except sync_api.TimeoutError as error:
        raise AssertionError(f"{selector} says {page.inner_text(selector)!r}, not {words!r}") from error
    return page.inner_text(selector)


def wait_for_value(page: Any, elem_id: str, words: str) -> None:
    """Until a dropdown shows a choice with these words."""
    page.wait_for_function(
        "([id, words]) => document.querySelector(`#${id} input`)?.value.includes(words)", arg=[elem_id, words]
    )


def remove_file(page: Any, *, really: bool = True) -> str:
    """Press the Models tab's Remove and answer what the page asks; gives the question."""
    asked = []

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept() if really else dialog.dismiss()

    page.once("dialog", answer)
    page.click("#taesd_remove")
    while not asked:
        page.wait_for_timeout(50)
    return asked[0]


def is_wider_than_screen(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")


def squeezed(page: Any) -> list[str]:
    """Boxes of ours that are in sight and too narrow for a line of words."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.block[id^=taesd_]')]
            .filter(box => box.offsetParent && box.offsetWidth < 100).map(box => box.id)"""
    )


def keep_shot(page: Any, folder: Path, name: str, selector: str | None = None) -> None:
    """A screenshot to look at, of the window or of one element."""
    folder = Path(os.environ.get(SHOTS) or folder)
    folder.mkdir(parents=True, exist_ok=True)
    (page.locator(selector).first if selector else page).screenshot(path=folder / f"{name}.png")
