"""The fake host of tests/host, for tests that put a real host's own functions into it."""

import importlib.util
import os
from pathlib import Path

import pytest
from host_source import HostSource

_spec = importlib.util.spec_from_file_location(
    "fake_host_fixtures", Path(__file__).resolve().parents[1] / "host" / "conftest.py"
)
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

bare_host, host, three_families = _fixtures.bare_host, _fixtures.host, _fixtures.three_families


@pytest.fixture(scope="session")
def source() -> HostSource:
    """The source of the WebUI in WEBUI_DIR."""
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs a WebUI's folder in WEBUI_DIR")
    return HostSource(Path(folder))
