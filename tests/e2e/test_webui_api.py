"""The REST routes of a real WebUI with a log-in: strangers are refused as its own API does it."""

import base64
import json
import re
import urllib.error
import urllib.request
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREFIX = "/taesd/v1"
LOG_IN = "anna:secret"


@pytest.fixture(scope="module")
def guarded(new_server):
    with new_server("--api-auth", LOG_IN) as server:
        yield server


def ask(server: Any, method: str, path: str, body: Any = None, log_in: str | None = LOG_IN) -> tuple[int, str]:
    """(status, text) of the answer, whatever it is."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    request.add_header("Content-Type", "application/json")
    if log_in is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(log_in.encode()).decode())
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data=data, timeout=120) as answer:
            return answer.status, answer.read().decode("latin-1")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("latin-1")


@pytest.fixture(scope="module")
def routes(guarded) -> list[tuple[str, str]]:
    """(method, path) of each route, as the host's own documentation lists them."""
    status, text = ask(guarded, "GET", "/openapi.json")
    assert status == 200
    return [
        (method.upper(), re.sub(r"\{\w+\}", "1", path))
        for path, methods in json.loads(text)["paths"].items()
        if path.startswith(PREFIX)
        for method in methods
    ]


def test_every_route_refuses_strangers_as_the_host_does(guarded, routes):
    assert len(routes) == 16
    for log_in in (None, "anna:wrong", "nobody:secret", "anna:", ":"):
        hosts = ask(guarded, "GET", "/sdapi/v1/options", log_in=log_in)
        assert hosts[0] == 401
        for method, path in routes:
            assert ask(guarded, method, path, {} if method == "POST" else None, log_in) == hosts, path
    assert ask(guarded, "GET", f"{PREFIX}/status")[0] == 200
