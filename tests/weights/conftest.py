"""A server of files for the tests of downloads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from download_case import CONTENT
from misbehaving_server import Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(CONTENT) as running:
        yield running
