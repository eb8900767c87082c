"""Files on Hugging Face, asked for as its own library asks: cache, mirror and token are the person's own.

The library's transfer is not used: only its newest versions show their progress, and none can be cancelled. Nor are
its headers: to build them its newest version asks the server something of its own.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from taesd_ext.weights.catalog import HUGGING_FACE

MIRROR_VARIABLE = "HF_ENDPOINT"
"""The environment variable by which a person names a mirror of huggingface.co."""


def cached_file(source: str) -> Path | None:
    """Where the library's cache holds the file of this address, whatever its bytes are."""
    if (place := _place(source)) is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(*place)
    return Path(found) if isinstance(found, str) else None


def request_for(source: str) -> tuple[str, dict[str, str], str]:
    """Address, headers, and the host from which plain http is taken, as the person named it as his mirror."""
    if (place := _place(source)) is None:
        return source, {}, ""
    from huggingface_hub import constants, get_token, hf_hub_url

    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/") or None
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return hf_hub_url(*place, endpoint=mirror), headers, urlsplit(mirror or "").hostname or ""


def _place(source: str) -> tuple[str, str] | None:
    """Repository and file of an address on Hugging Face."""
    if not source.startswith(HUGGING_FACE):
        return None
    repository, _, name = source[len(HUGGING_FACE) :].partition("/resolve/main/")
    return repository, name
