"""Generation parameters that say which autoencoder really made or read a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taesd_ext.codec.codec import Codec
from taesd_ext.host.webui import TAESD
from taesd_ext.settings import INFOTEXT_MODEL
from taesd_ext.weights.identify import checksums

HOST_KEY = {"decoder": "VAE Decoder", "encoder": "VAE Encoder"}

_names: dict[tuple[Path, int, int], str] = {}


def record(processing: Any, part: str, codec: Codec | None) -> None:
    """Note that ``codec`` did the decoding or encoding, or that the full VAE did (None).

    The host writes its option's name beforehand, and forgets to with hires fix; what is written here is what was done.
    """
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is None:
        return
    used = [word for word in str(parameters.get(INFOTEXT_MODEL, "")).split(" + ") if word and f" {part}" not in word]
    if codec is None:
        parameters.pop(HOST_KEY[part], None)
    else:
        parameters[HOST_KEY[part]] = TAESD
        used.append(model_name(codec, part))
    if used:
        parameters[INFOTEXT_MODEL] = " + ".join(sorted(used))
    else:
        parameters.pop(INFOTEXT_MODEL, None)


def record_built_in(processing: Any, part: str) -> None:
    """Note that the host's own TAESD was used."""
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is not None:
        parameters[HOST_KEY[part]] = TAESD


def comment(processing: Any, text: str) -> None:
    """Show a line under the picture, where the host can."""
    say = getattr(processing, "comment", None)
    if callable(say):
        say(text)


def model_name(codec: Codec, part: str) -> str:
    """Family, part and the beginning of the file's SHA-256: "taesd decoder 1a2b3c4d"."""
    path = getattr(codec.source, part)
    try:
        stat = path.stat()
    except (AttributeError, OSError):
        return f"{codec.name} {part}"
    key = (path, stat.st_size, stat.st_mtime_ns)
    if key not in _names:
        _names[key] = checksums(path)[0][:8]
    return f"{codec.name} {part} {_names[key]}"
