"""The page of a real WebUI: opening it, and what its own console says without the extension."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chromium import WIDE, fill, go_to, window

from taesd_ext.settings import OPTIONS

COMBINATIONS = [(WIDE, "light"), ((400, 850), "dark")]
"""What every control is used at; each size is looked at in the other scheme too."""

NAMES = ["wide-light", "phone-dark"]


@contextmanager
def webui_window(browser: Any, webui: Any, size: tuple[int, int] = WIDE, scheme: str = "light") -> Iterator[Any]:
    with window(browser, f"http://127.0.0.1:{webui.port}", size, scheme) as page:
        yield page


def generate_in_page(page: Any, steps: int = 8, side: int = 128, prompt: str = "scene", tab: str = "txt2img") -> None:
    """Fill in the fields and press Generate."""
    go_to(page, tab, "#tabs")
    for name, value in (("steps", steps), ("width", side), ("height", side), ("cfg_scale", 4)):
        fill(page, f"{tab}_{name}", value)
    page.locator(f"#{tab}_prompt textarea").fill(prompt)
    page.locator(f"#{tab}_prompt textarea").press("Tab")
    page.click(f"#{tab}_generate")


def wait_for_picture(page: Any, tab: str = "txt2img") -> None:
    """Until the job is over and its picture is shown."""
    page.wait_for_function(
        f"!document.querySelector('.livePreview') && !document.querySelector('.progressDiv')"
        f" && !!document.querySelector('#{tab}_gallery img')"
    )


def kinds_of(errors: list[str]) -> set[str]:
    """Console errors without what differs from time to time: addresses and numbers."""
    return {re.sub(r"https?://\S+|\d+", "#", error) for error in errors}


def ask(webui: Any, path: str, data: Any = None) -> Any:
    return webui.call(f"/taesd/v1{path}", data)


def jobs(webui: Any) -> list[dict[str, Any]]:
    """The timeline, newest job first."""
    return ask(webui, "/timeline")


def settings(webui: Any) -> dict[str, Any]:
    """Our options by name."""
    options = webui.call("/sdapi/v1/options")
    return {option.name: options[option.key] for option in OPTIONS}
