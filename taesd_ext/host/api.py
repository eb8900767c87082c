"""REST routes under /taesd/v1, where the host's own API is on, with the same log-in; and the badge's own status."""

import secrets
from collections.abc import Callable
from typing import Any

from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import create_model

from taesd_ext.settings import OPTIONS
from taesd_ext.ui.actions import PanelActions
from taesd_ext.ui.work import LEFT, leave

PREFIX = "/taesd/v1"

BADGE = "/internal/taesd"
"""Beside the host's own /internal/progress, and as open as that: it says nothing but numbers of the running job and
the model's kind."""

_HOSTS_OPTIONS = "/sdapi/v1/options"


def add_routes(
    app: Any, argument: Callable[[str], Any], status: Callable[[], dict[str, Any]], actions: PanelActions
) -> None:
    """Add the routes to the host's FastAPI app; beyond what our pages ask for, only where the host's API is on.

    ``argument`` gives those of the host's command line, ``status`` what is known of the previews.
    """
    app.add_api_route(BADGE, status, methods=["GET"])
    app.add_api_route(LEFT, leave, methods=["POST"])
    if not (argument("api") or argument("nowebui")):
        return
    from taesd_ext.host.api_routes import Routes, answering  # most have no use for it

    guard = [Depends(_log_in(credentials))] if (credentials := argument("api_auth")) else []
    for path, method, route, model in Routes(actions, status).table():
        app.add_api_route(
            PREFIX + path, answering(route), methods=[method], response_model=model, name=f"taesd_{route.__name__}",
            dependencies=guard, tags=["TAESD"],
        )  # fmt: skip
    _describe_options(app)
    app.openapi_schema = None  # made before we came


def _describe_options(app: Any) -> None:
    """Have our options in the host's answer to GET /sdapi/v1/options.

    Forge and its kin describe that answer before extensions add their options, and leave out what is not described.
    A1111 does it later, and to describe hundreds of options once more takes 0.3 s.
    """
    ours = {option.key: (Any, option.default) for option in OPTIONS}
    routes = app.router.routes
    for place, route in enumerate(routes):
        if getattr(route, "path", "") == _HOSTS_OPTIONS and "GET" in route.methods and route.response_model:
            if ours.keys() <= route.response_model.__annotations__.keys():
                return
            described = create_model("Options", __base__=route.response_model, **ours)
            app.add_api_route(
                route.path, route.endpoint, methods=["GET"], response_model=described, dependencies=route.dependencies
            )
            routes[place] = routes.pop()
            return


def _log_in(credentials: str) -> Callable[..., None]:
    """The check that the host's API makes: one of its "user:password,user:password"."""
    known = dict(pair.split(":", 1) for pair in credentials.split(",") if ":" in pair)

    def check(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - how FastAPI injects
        password = known.get(given.username)
        if password is None or not secrets.compare_digest(given.password.encode(), password.encode()):
            headers = {"WWW-Authenticate": "Basic"}
            # By keyword, as the host does it: its answer shows what was given by position.
            raise HTTPException(status_code=401, detail="Incorrect username or password", headers=headers)

    return check
