"""A page for a second screen: the running job's preview as large as the window, for every job and without gradio."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body, Depends, HTTPException
from fastapi.responses import HTMLResponse

from taesd_ext.errors import TaesdError, log_once
from taesd_ext.host.accordion import SECOND_SCREEN_PATH
from taesd_ext.host.previews import Previews
from taesd_ext.host.webui import WebUI

_PAGE = Path(__file__).resolve().parents[1] / "data" / "second_screen.html"
_LOCALIZATION = "/* localization */"
"""Where the page has the host's translations."""


@dataclass(frozen=True)
class SecondScreen:
    """``save_preview(number)`` saves a preview as the host saves pictures."""

    host: WebUI
    previews: Previews
    save_preview: Callable[[int], Path]

    def add_to(self, app: Any) -> None:
        """Put the page behind the log-in that the host's own page has. Where that is not found, there is no page."""
        # gradio makes this check anew for each of its apps, and names it in no other place.
        logged_in = next((route.endpoint for route in app.routes if getattr(route, "name", "") == "login_check"), None)
        if logged_in is None:
            log_once("second screen", f"No {SECOND_SCREEN_PATH}: the log-in that would guard it was not found")
            return
        guards = [Depends(logged_in), Depends(self._private)]
        router = APIRouter(prefix=SECOND_SCREEN_PATH, dependencies=guards, include_in_schema=False)
        router.add_api_route("", self.page, methods=["GET"], response_class=HTMLResponse)
        router.add_api_route("/now", self.now, methods=["GET"])
        router.add_api_route("/save", self.save, methods=["POST"])
        app.include_router(router)

    def _private(self) -> None:
        if not self.host.allows_changes():
            raise HTTPException(403, "This WebUI is shared, so others' previews are not shown")

    def page(self) -> HTMLResponse:
        page = _PAGE.read_text(encoding="utf-8")
        return HTMLResponse(page.replace(_LOCALIZATION, self.host.localization().replace("</", "<\\/")))

    def now(self, job: str = "", preview: int = 0) -> dict[str, Any]:
        """The running or last job, for a page that has shown this preview of this job; it asks for a new one, as polls
        do. ``picture`` is the newest preview as an address, empty where the page has it already."""
        state, running, begun = self.host.state, self.host.is_busy(), self.host.job()
        if running:
            state.set_current_image()
        newest, step, picture = self.previews.shown()
        _, steps = self.previews.session.progress if self.previews.active else self.host.progress()
        return {
            "job": str(begun),
            "active": running,
            "step": step,
            "steps": steps,
            "seconds": max(0.0, time.time() - begun) if running and isinstance(begun, float) else 0.0,
            "preview": newest,
            "picture": "" if (job, preview) == (str(begun), newest) else picture,
        }

    def save(self, preview: int = Body(0, embed=True)) -> dict[str, str]:
        """Save a preview of the running job, by its number; 0 is the newest."""
        try:
            return {"file": self.save_preview(preview).name}
        except TaesdError as error:
            raise HTTPException(409, str(error)) from error
