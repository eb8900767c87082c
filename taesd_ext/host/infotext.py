"""Generation parameters that say which autoencoder really made or read a picture."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import EMBEDDED_SUFFIX
from taesd_ext.host.webui import TAESD
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.settings import HOSTS_VAE, INFOTEXT_FIRST_VAE, INFOTEXT_MODEL, INFOTEXT_STEP, INFOTEXT_VAE
from taesd_ext.weights.identify import HASH_UP_TO, known_sha256
from taesd_ext.weights.installed_vaes import canonical_name, file_title

HOST_KEY = {"decoder": "VAE Decoder", "encoder": "VAE Encoder"}
TILES = "VAE tile size"
IMAGE_SCALE = "VAE upscale"
PREVIEW_DETAIL = "Preview detail"

BUILT_IN = {part: {key: TAESD} for part, key in HOST_KEY.items()}
"""What the parameters say where the host's own TAESD was used."""

_ONLY_OF_DECODERS = (INFOTEXT_VAE, TILES, IMAGE_SCALE)


def made_by(codec: Codec, part: str) -> dict[str, Any]:
    """The parameters that name a codec of ours: a tiny one by its model, a full VAE by its file."""
    if part in codec.source.embedded:
        return {INFOTEXT_VAE: f"{codec.name}{EMBEDDED_SUFFIX}"}
    if codec.name in FAMILIES:
        # Family, part and the beginning of the file's SHA-256: "taesd decoder 1a2b3c4d".
        model = f"{codec.name} {part} {_sha256(getattr(codec.source, part))[:8]}".rstrip()
        return {HOST_KEY[part]: TAESD, INFOTEXT_MODEL: model}
    scale = {IMAGE_SCALE: codec.image_scale} if codec.image_scale > 1 else {}
    return {INFOTEXT_VAE: _vae_name(codec), **scale}


def begin(processing: Any) -> None:
    """Take out what was noted of an earlier picture: X/Y/Z plot and loopback hand the same parameters on."""
    _parameters(processing).pop(INFOTEXT_FIRST_VAE, None)
    for part in HOST_KEY:
        forget(processing, part)


def forget(processing: Any, part: str) -> None:
    """The host's own VAE did it: what was noted here before is true no more; all else is left as it is."""
    parameters = _parameters(processing)
    _end_first_pass(parameters, part, {})
    ours = f" {part}" in str(parameters.get(INFOTEXT_MODEL, ""))
    _without(parameters, part)
    if ours and parameters.get(HOST_KEY[part]) == TAESD:
        del parameters[HOST_KEY[part]]


def record(processing: Any, part: str, made: Mapping[str, Any]) -> None:
    """Note what did the decoding or encoding, as ``made_by`` names it; nothing, where the full VAE did.

    The host writes its option's name beforehand, and forgets to with hires fix; what is written here is what was done.
    """
    parameters = _parameters(processing)
    _end_first_pass(parameters, part, made)
    others = _without(parameters, part)
    parameters.pop(HOST_KEY[part], None)
    parameters.update(made)
    if INFOTEXT_MODEL in made:
        parameters[INFOTEXT_MODEL] = " + ".join(sorted([*others, made[INFOTEXT_MODEL]]))


def record_first_pass(processing: Any, made: Mapping[str, Any]) -> None:
    """Note what decoded the first pass of hires fix; what decodes the final picture may be something else."""
    _parameters(processing)[INFOTEXT_FIRST_VAE] = _decoder_name(made)


def _end_first_pass(parameters: dict[str, Any], part: str, made: Mapping[str, Any]) -> None:
    """Where both passes have one decoder, it is named once."""
    if part == "decoder" and parameters.get(INFOTEXT_FIRST_VAE) == _decoder_name(made):
        del parameters[INFOTEXT_FIRST_VAE]


def _decoder_name(made: Mapping[str, Any]) -> str:
    return made.get(INFOTEXT_VAE) or made.get(HOST_KEY["decoder"]) or HOSTS_VAE


def comment(processing: Any, text: str) -> None:
    """Show a line under the picture, where the host can."""
    say = getattr(processing, "comment", None)
    if callable(say):
        say(text)


def decoded_again(infotext: str, codec: Codec | None, step: str = "") -> str:
    """A picture's generation parameters, changed to what decoded its latent now (None: the full VAE).

    ``step``, "14/24", is the one whose predicted latent it was; of a finished one there is none.
    """
    made = made_by(codec, "decoder") if codec else {}
    return _made_again(infotext, {**made, **({INFOTEXT_STEP: step} if step else {"Decoded again": "yes"})})


def of_preview(infotext: str, step: str, detail: str) -> str:
    """The generation parameters of a preview that is saved as it was shown."""
    return _made_again(infotext, {INFOTEXT_STEP: step, PREVIEW_DETAIL: detail})


def _made_again(infotext: str, made: dict[str, Any]) -> str:
    if not infotext:
        return ""
    *lines, parameters = infotext.split("\n")
    # The last line holds the parameters, "Steps: 20, Sampler: Euler, ..."; a quoted value may hold commas.
    named = re.search(rf"(?:^|, ){INFOTEXT_MODEL}: ([^,]*)", parameters)
    known = {INFOTEXT_MODEL: named.group(1) if named else ""}
    models = [*_without(known, "decoder"), *filter(None, [made.pop(INFOTEXT_MODEL, None)])]
    gone = "|".join((HOST_KEY["decoder"], INFOTEXT_MODEL, *_ONLY_OF_DECODERS))
    parameters = re.sub(rf'(?:^|, )(?:{gone}): (?:"(?:[^"\\]|\\.)*"|[^,]*)', "", parameters)
    parameters, version, number = parameters.partition(", Version: ")
    if models:
        made = {INFOTEXT_MODEL: " + ".join(sorted(models)), **made}
    added = "".join(f", {key}: {_quoted(str(value))}" for key, value in made.items())
    return "\n".join([*lines, parameters.removeprefix(", ") + added + version + number])


def _parameters(processing: Any) -> dict[str, Any]:
    parameters = getattr(processing, "extra_generation_params", None)
    return {} if parameters is None else parameters


def _without(parameters: dict[str, Any], part: str) -> list[str]:
    """Take out what was noted here of a part; the models named for the other remain, and are returned."""
    for key in _ONLY_OF_DECODERS if part == "decoder" else ():
        parameters.pop(key, None)
    named = str(parameters.pop(INFOTEXT_MODEL, "")).split(" + ")
    others = [model for model in named if model and f" {part}" not in model]
    if others:
        parameters[INFOTEXT_MODEL] = " + ".join(others)
    return others


def _vae_name(codec: Codec) -> str:
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
    return known_sha256(path, stat.st_size, stat.st_mtime_ns) if stat.st_size <= HASH_UP_TO else ""
