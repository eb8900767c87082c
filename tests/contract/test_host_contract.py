"""The contract with a real WebUI's source: run with ``WEBUI_DIR=/path/to/webui pytest tests/contract``.

Nothing of the host is imported or run. A host update that breaks us names the seam here, and what it was used for.
"""

import pytest
from host_contract import HOSTS, LATENT_FORMATS, SEAMS, WITHOUT_TINY_DECODER, Seam
from host_source import HostSource, Missing

from taesd_ext import latent_formats


def test_host_is_known(source: HostSource) -> None:
    assert source.kind in HOSTS, f"{source.root} is no WebUI that the extension knows"


@pytest.mark.parametrize("seam", SEAMS, ids=[seam.name for seam in SEAMS])
def test_seam(source: HostSource, seam: Seam) -> None:
    broken = seam.broken(source)
    assert broken is None, broken


def test_every_latent_format_of_the_host_is_known(source: HostSource) -> None:
    """A new model family in the host is a row to add, or a name to add to those without a tiny decoder."""
    if source.kind not in LATENT_FORMATS:
        pytest.skip(f"{source.kind} has no latent formats that name their decoder")
    try:
        classes = source.classes(LATENT_FORMATS[source.kind])
    except Missing:
        pytest.skip(f"{LATENT_FORMATS[source.kind]} is fetched at the host's first start")
    known = {name for row in latent_formats.LATENT_FORMATS for name in row.host_names} | WITHOUT_TINY_DECODER
    assert classes.keys() - known - {"LatentFormat"} == set()
