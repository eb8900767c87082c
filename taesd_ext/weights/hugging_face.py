"""Files on Hugging Face, asked for as its own library asks: cache, mirror and token are the person's own.

The library's transfer is not used: only its newest versions show their progress, and none can be cancelled. Nor are
its headers: to build them its newest version asks the server something of its own.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from taesd_ext.weights.catalog import HUGGING_FACE


def cached_file(source: str) -> Path | None:
    """Where the library's cache holds the file of this address, whatever its bytes are."""
    if not source.startswith(HUGGING_FACE):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(*source.removeprefix(HUGGING_FACE).split("/resolve/main/"))
    return Path(found) if isinstance(found, str) else None


def request_for(source: str) -> tuple[str, dict[str, str], str]:
    """Address, headers, and the host from which plain http is taken, as the person named it as his mirror."""
    if not source.startswith(HUGGING_FACE):
        return source, {}, ""
    from huggingface_hub import constants, get_token

    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = source.replace(HUGGING_FACE, f"{mirror}/", 1) if mirror else source
    return url, headers, urlsplit(mirror).hostname or ""
