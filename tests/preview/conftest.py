"""Fixtures of the session's tests."""

import pytest
from fake_codec import Clock


@pytest.fixture
def no_embedded_previewer(monkeypatch):
    """Most tests are about what comes when nothing else is there."""
    monkeypatch.setattr("taesd_ext.preview.drawing.has_previewer", lambda name: False)


@pytest.fixture
def clock():
    return Clock()
