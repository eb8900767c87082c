"""A page for a second screen: the running job's preview as large as the window, for every job and without gradio."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from taesd_ext.errors import TaesdError, log_once
from taesd_ext.host.api_models import Saved
from taesd_ext.host.previews import Previews
from taesd_ext.host.webui import WebUI

PATH = "/taesd/preview"

_PAGE = Path(__file__).resolve().parents[1] / "data" / "second_screen.html"
_LOCALIZATION = "/* localization */"
"""Where the page has the host's translations."""


class Shown(BaseModel):
    """The running job, or the last one."""

    job: str = Field(description="tells one job from the next")
    active: bool
    step: int = Field(description="that the newest preview shows")
    steps: int
    seconds: float = Field(description="since the job began")
    preview: int = Field(description="number of the newest preview")
    picture: str = Field("", description="that preview as an address; empty where the page has it already")


class Wanted(BaseModel):
    preview: int = Field(0, description="number of the preview; 0 = the newest")


class SecondScreen:
    """``save(number)`` saves a preview as the host saves pictures."""

    def __init__(self, host: WebUI, previews: Previews, save: Callable[[int], Path]) -> None:
        self._host = host
        self._previews = previews
        self._save = save

    def add_to(self, app: Any) -> None:
        """Put the page behind the log-in that the host's own page has. Where that is not found, there is no page."""
        # gradio makes this check anew for each of its apps, and names it in no other place.
        logged_in = next((route.endpoint for route in app.routes if getattr(route, "name", "") == "login_check"), None)
        if logged_in is None:
            log_once("second screen", f"No {PATH}: this gradio's log-in was not found, which would guard it")
            return
        guards = [Depends(logged_in), Depends(self._private)]
        router = APIRouter(prefix=PATH, dependencies=guards, include_in_schema=False)
        router.add_api_route("", self.page, methods=["GET"], response_class=HTMLResponse)
        router.add_api_route("/now", self.now, methods=["GET"], response_model=Shown)
        router.add_api_route("/save", self.save, methods=["POST"], response_model=Saved)
        app.include_router(router)

    def _private(self) -> None:
        if not self._host.allows_changes():
            raise HTTPException(403, "This WebUI is shared: previews of others are not shown")

    def page(self) -> HTMLResponse:
        page = _PAGE.read_text(encoding="utf-8")
        return HTMLResponse(page.replace(_LOCALIZATION, self._host.localization().replace("</", "<\\/")))

    def now(self, job: str = "", preview: int = 0) -> Shown:
        """What is to be shown by a page that has shown this preview of this job; it asks for a new one, as polls do."""
        state, running, begun = self._host.state, self._host.is_busy(), self._host.job()
        if running:
            state.set_current_image()
        newest, step, picture = self._previews.shown()
        _, steps = self._previews.session.progress if self._previews.active else self._host.progress()
        return Shown(
            job=str(begun),
            active=running,
            step=step,
            steps=steps,
            seconds=max(0.0, time.time() - begun) if running and isinstance(begun, float) else 0.0,
            preview=newest,
            picture="" if (job, preview) == (str(begun), newest) else picture,
        )

    def save(self, wanted: Wanted) -> Saved:
        """Save a preview of the running job."""
        try:
            return Saved(file=self._save(wanted.preview).name)
        except TaesdError as error:
            raise HTTPException(409, str(error)) from error
