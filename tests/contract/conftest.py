"""The source of a real host."""

import os
from pathlib import Path

import pytest
from host_source import HostSource


@pytest.fixture(scope="session")
def source() -> HostSource:
    """The source of the WebUI in WEBUI_DIR."""
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs a WebUI's folder in WEBUI_DIR")
    return HostSource(Path(folder))
