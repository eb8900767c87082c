"""Generation parameters that say which autoencoder really made or read a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from taesd_ext.codec.codec import Codec
from taesd_ext.host.webui import TAESD
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.settings import INFOTEXT_MODEL, INFOTEXT_VAE
from taesd_ext.weights.identify import HASH_UP_TO, checksums
from taesd_ext.weights.vae_choice import file_title

HOST_KEY = {"decoder": "VAE Decoder", "encoder": "VAE Encoder"}

_hashes: dict[tuple[Path, int, int], str] = {}


def record(processing: Any, part: str, codec: Codec | None) -> None:
    """Note that ``codec`` did the decoding or encoding, or that the full VAE did (None).

    The host writes its option's name beforehand, and forgets to with hires fix; what is written here is what was done.
    """
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is None:
        return
    if part == "decoder":
        parameters.pop(INFOTEXT_VAE, None)
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


def record_vae(processing: Any, codec: Codec) -> None:
    """Note that a full VAE of ours did the decoding, whatever the host's decode method is."""
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is not None:
        record(processing, "decoder", None)
        parameters[INFOTEXT_VAE] = vae_name(codec)


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
    return f"{codec.name} {part} {_sha256(getattr(codec.source, part))[:8]}".rstrip()


def vae_name(codec: Codec) -> str:
    """The file's name without its suffix and the beginning of its SHA-256: "kl-f8-anime2 (df3c506e51)"."""
    path = codec.source.decoder
    sha256 = _sha256(path)
    return f"{file_title(path)} ({sha256[:10]})" if sha256 else file_title(path)


def _sha256(path: Path | None) -> str:
    """A file's SHA-256, computed once; empty where it cannot be, or would take long."""
    try:
        stat = path.stat()
    except (AttributeError, OSError):
        return ""
    if stat.st_size > HASH_UP_TO:
        return ""
    key = (path, stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = checksums(path)[0]
    return _hashes[key]


def decoded_again(infotext: str, codec: Codec | None) -> str:
    """A picture's generation parameters, changed to what decoded its latent now (None: the full VAE)."""
    if not infotext:
        return ""
    lines = infotext.split("\n")
    # The last line holds the parameters, "Steps: 20, Sampler: Euler, ..."; a quoted value may hold commas.
    encoder = re.search(rf"(?:^|, ){INFOTEXT_MODEL}: ([^,]*)", lines[-1])
    used = [word for word in (encoder.group(1).split(" + ") if encoder else []) if " decoder" not in word]
    made_by = "|".join((HOST_KEY["decoder"], INFOTEXT_MODEL, INFOTEXT_VAE))
    parameters = re.sub(rf'(?:^|, )(?:{made_by}): (?:"(?:[^"\\]|\\.)*"|[^,]*)', "", lines[-1])
    parameters, version, number = parameters.partition(", Version: ")
    if codec is not None:
        used.append(model_name(codec, "decoder"))
        is_tiny = codec.name in FAMILIES
        parameters += f", {HOST_KEY['decoder']}: {TAESD if is_tiny else codec.name}"
    if used:
        parameters += f", {INFOTEXT_MODEL}: {' + '.join(sorted(used))}"
    return "\n".join([*lines[:-1], parameters.removeprefix(", ") + f", Decoded again: yes{version}{number}"])
