"""Generation parameters that say which autoencoder really made or read a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from taesd_ext.codec.codec import Codec
from taesd_ext.host.webui import TAESD
from taesd_ext.latent_formats import FAMILIES
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


def decoded_again(infotext: str, codec: Codec | None) -> str:
    """A picture's generation parameters, changed to what decoded its latent now (None: the full VAE)."""
    if not infotext:
        return ""
    lines = infotext.split("\n")
    # The last line holds the parameters, "Steps: 20, Sampler: Euler, ..."; a quoted value may hold commas.
    encoder = re.search(rf"(?:^|, ){INFOTEXT_MODEL}: ([^,]*)", lines[-1])
    used = [word for word in (encoder.group(1).split(" + ") if encoder else []) if " decoder" not in word]
    parameters = re.sub(rf"(?:^|, )(?:{HOST_KEY['decoder']}|{INFOTEXT_MODEL}): [^,]*", "", lines[-1])
    parameters, version, number = parameters.partition(", Version: ")
    if codec is not None:
        used.append(model_name(codec, "decoder"))
        is_tiny = codec.name in FAMILIES
        parameters += f", {HOST_KEY['decoder']}: {TAESD if is_tiny else codec.name}"
    if used:
        parameters += f", {INFOTEXT_MODEL}: {' + '.join(sorted(used))}"
    return "\n".join([*lines[:-1], parameters.removeprefix(", ") + f", Decoded again: yes{version}{number}"])
