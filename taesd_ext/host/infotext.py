"""Generation parameters that say which autoencoder really made or read a picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from taesd_ext.codec.codec import Codec
from taesd_ext.host.webui import TAESD
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.settings import INFOTEXT_MODEL, INFOTEXT_STEP, INFOTEXT_VAE
from taesd_ext.weights.identify import HASH_UP_TO, checksums
from taesd_ext.weights.installed_vaes import canonical_name, file_title

HOST_KEY = {"decoder": "VAE Decoder", "encoder": "VAE Encoder"}
TILES = "VAE tile size"
IMAGE_SCALE = "VAE upscale"

_hashes: dict[tuple[Path, int, int], str] = {}


def begin(processing: Any) -> None:
    """Take out what was noted of an earlier picture: X/Y/Z plot and loopback hand the same parameters on."""
    for part in HOST_KEY:
        record_hosts_own(processing, part)


def record(processing: Any, part: str, codec: Codec | None) -> None:
    """Note that ``codec`` did the decoding or encoding, or that the full VAE did (None).

    The host writes its option's name beforehand, and forgets to with hires fix; what is written here is what was done.
    """
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is None:
        return
    used = _without(parameters, part)
    if codec is None:
        parameters.pop(HOST_KEY[part], None)
    else:
        parameters[HOST_KEY[part]] = TAESD
        parameters[INFOTEXT_MODEL] = " + ".join(sorted([*used, model_name(codec, part)]))


def record_vae(processing: Any, part: str, codec: Codec) -> None:
    """Note that a full VAE of ours did it, whatever the host's decode method is."""
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is not None:
        record(processing, part, None)
        parameters[INFOTEXT_VAE] = vae_name(codec)
        if codec.image_scale > 1:
            parameters[IMAGE_SCALE] = codec.image_scale


def record_tiles(processing: Any, side: int) -> None:
    """Note that the picture was decoded in tiles of so many pixels a side."""
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is not None:
        parameters[TILES] = side


def record_built_in(processing: Any, part: str) -> None:
    """Note that the host's own TAESD was used."""
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is not None:
        _without(parameters, part)
        parameters[HOST_KEY[part]] = TAESD


def record_hosts_own(processing: Any, part: str) -> None:
    """Note that the host's own VAE did it: what was noted here before is true no more; all else is left as it is."""
    parameters = getattr(processing, "extra_generation_params", None)
    if parameters is not None:
        named = str(parameters.get(INFOTEXT_MODEL, ""))
        _without(parameters, part)
        if f" {part}" in named and parameters.get(HOST_KEY[part]) == TAESD:
            del parameters[HOST_KEY[part]]


def _without(parameters: dict[str, Any], part: str) -> list[str]:
    """Take out what was noted here of a part; the models named for the other remain, and are returned."""
    if part == "decoder":
        parameters.pop(INFOTEXT_VAE, None)
        parameters.pop(TILES, None)
        parameters.pop(IMAGE_SCALE, None)
    used = [word for word in str(parameters.get(INFOTEXT_MODEL, "")).split(" + ") if word and f" {part}" not in word]
    if used:
        parameters[INFOTEXT_MODEL] = " + ".join(used)
    else:
        parameters.pop(INFOTEXT_MODEL, None)
    return used


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
    title, sha256 = file_title(path), _sha256(path)
    if canonical_name(title) != canonical_name(codec.name):  # by the file's name nobody could choose it again
        title = codec.name
    return f"{title} ({sha256[:10]})" if sha256 else title


def _quoted(value: str) -> str:
    """As the host writes a value in which its own marks occur."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value


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


def decoded_again(infotext: str, codec: Codec | None, step: str = "") -> str:
    """A picture's generation parameters, changed to what decoded its latent now (None: the full VAE).

    ``step``, "14/24", is the one whose predicted latent it was; of a finished one there is none.
    """
    if not infotext:
        return ""
    lines = infotext.split("\n")
    # The last line holds the parameters, "Steps: 20, Sampler: Euler, ..."; a quoted value may hold commas.
    encoder = re.search(rf"(?:^|, ){INFOTEXT_MODEL}: ([^,]*)", lines[-1])
    used = [word for word in (encoder.group(1).split(" + ") if encoder else []) if " decoder" not in word]
    made_by = "|".join((HOST_KEY["decoder"], INFOTEXT_MODEL, INFOTEXT_VAE, TILES, IMAGE_SCALE))
    parameters = re.sub(rf'(?:^|, )(?:{made_by}): (?:"(?:[^"\\]|\\.)*"|[^,]*)', "", lines[-1])
    parameters, version, number = parameters.partition(", Version: ")
    if codec is not None:
        if codec.name in FAMILIES:
            used.append(model_name(codec, "decoder"))
            parameters += f", {HOST_KEY['decoder']}: {TAESD}"
        else:
            parameters += f", {INFOTEXT_VAE}: {_quoted(vae_name(codec))}"
    if used:
        parameters += f", {INFOTEXT_MODEL}: {' + '.join(sorted(used))}"
    again = f"{INFOTEXT_STEP}: {step}" if step else "Decoded again: yes"
    return "\n".join([*lines[:-1], parameters.removeprefix(", ") + f", {again}{version}{number}"])
