"""The REST routes of a real WebUI with a log-in: strangers are refused as its own API does it."""

import re

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREFIX = "/taesd/v1"


def test_every_route_refuses_strangers_as_the_host_does(new_server):
    with new_server("--api-auth", "anna:secret") as server, httpx.Client(timeout=120) as client:

        def ask(method, path, log_in):
            address = f"http://127.0.0.1:{server.port}{path}"
            return client.request(method, address, auth=log_in, json={} if method == "POST" else None)

        described = ask("GET", "/openapi.json", ("anna", "secret")).json()["paths"]
        routes = [(method.upper(), path) for path in described if path.startswith(PREFIX) for method in described[path]]
        assert len(routes) == 16
        for log_in in (None, ("anna", "wrong"), ("nobody", "secret"), ("anna", ""), ("", "")):
            hosts = ask("GET", "/sdapi/v1/options", log_in)
            assert hosts.status_code == 401
            for method, path in routes:
                answer = ask(method, re.sub(r"\{\w+\}", "1", path), log_in)
                assert (answer.status_code, answer.text) == (401, hosts.text), path
        assert ask("GET", f"{PREFIX}/status", ("anna", "secret")).status_code == 200
