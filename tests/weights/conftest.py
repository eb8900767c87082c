"""A server of files for the tests of downloads."""

import ssl
from collections.abc import Iterator

import pytest
from download_case import CONTENT
from misbehaving_server import Server, serving

from taesd_ext.weights import fetch


@pytest.fixture(scope="session")
def certificates() -> ssl.SSLContext:
    """They take a third of a second to read."""
    return fetch._certificates()


@pytest.fixture
def server(certificates: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "_certificates", lambda: certificates)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(CONTENT) as running:
        yield running
