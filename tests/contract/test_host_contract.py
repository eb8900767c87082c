"""The contract with a real WebUI's source: run with ``WEBUI_DIR=/path/to/webui pytest tests/contract``.

Nothing of the host is imported or run. A host update that breaks us names the seam here, and what it was used for.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from host_contract import HOSTS, LATENT_FORMATS, SEAMS, WITHOUT_TINY_DECODER, Seam
from host_source import HostSource, Missing

from taesd_ext import latent_formats


@pytest.fixture(scope="module")
def host() -> HostSource:
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs a WebUI's folder in WEBUI_DIR")
    return HostSource(Path(folder))


def test_host_is_known(host: HostSource) -> None:
    assert host.kind in HOSTS, f"{host.root} is no WebUI that the extension knows"


@pytest.mark.parametrize("seam", SEAMS, ids=[f"{seam.capability}: {seam.name}" for seam in SEAMS])
def test_seam(host: HostSource, seam: Seam) -> None:
    broken = seam.broken(host)
    assert broken is None, broken


def test_every_latent_format_of_the_host_is_known(host: HostSource) -> None:
    """A new model family in the host is a row to add, or a name to add to those without a tiny decoder."""
    if host.kind not in LATENT_FORMATS:
        pytest.skip(f"{host.kind} has no latent formats that name their decoder")
    try:
        classes = host.classes(LATENT_FORMATS[host.kind])
    except Missing:
        pytest.skip(f"{LATENT_FORMATS[host.kind]} is fetched at the host's first start")
    known = {name for row in latent_formats.LATENT_FORMATS for name in row.host_names} | WITHOUT_TINY_DECODER
    assert classes.keys() - known - {"LatentFormat"} == set()
