"""The REST routes of a real WebUI with a log-in: strangers are refused as its own API does it, nothing makes a 500."""

import base64
import json
import re
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from api_requests import FIELDS, ID, JSON, QUERY, VALUES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def test_nothing_posted_makes_a_500(guarded, routes):
    paths = [path for method, path in routes if method == "POST"]

    @settings(max_examples=150, suppress_health_check=list(HealthCheck), database=None)
    @given(path=st.sampled_from(paths), body=st.dictionaries(FIELDS, VALUES, max_size=4) | JSON)
    def posted(path, body):
        status, text = ask(guarded, "POST", path, body)
        assert status < 500, (path, body, text)

    posted()


def test_nothing_asked_for_makes_a_500(guarded):
    @settings(max_examples=100, suppress_health_check=list(HealthCheck), database=None)
    @given(job=ID, number=ID, query=QUERY)
    def asked(job, number, query):
        job, number = (quote(str(part), safe="") for part in (job, number))
        for path in (f"frames/{number}", "animation", f"moments/{number}/picture", f"moments/{number}/latent"):
            status, text = ask(guarded, "GET", f"{PREFIX}/timeline/{job}/{path}?{urlencode(query)}")
            assert status < 500, (path, text)

    asked()
