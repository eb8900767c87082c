"""Which family a tiny autoencoder is of: four channels leave taesd or taesdxl, sixteen leave taesd3 or taef1.

A wrong answer draws wrong colours. Evidence, best first, after the official checksum: official values, what the file
says of itself (metadata, ComfyUI's scale, names of keys), its own name, its folder's name. Without any it is a guess,
and called so.
"""

import re
from collections.abc import Iterable

from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS, NAMES_OF_FAMILIES, native_format
from taesd_ext.weights.catalog import CATALOG
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.tiny_file import TinyPart, fits


def tell_families(file: TensorFile, parts: dict[str, TinyPart]) -> tuple[tuple[str, ...], bool]:
    """The families that a file with these parts may be of, likeliest first, and whether only its shape tells them.

    Raises TaesdError if the file is damaged.
    """
    fitting = _fitting(parts)
    if found := _by_values(parts, fitting) or _by_own_words(file, parts, fitting):
        return (found,), False
    path = file.path.absolute()
    if found := _by_name(path.stem, fitting) or _by_folder(path.parent.name.lower(), fitting):
        return tuple(dict.fromkeys((found, *fitting))), False
    return fitting, True


def _fitting(parts: dict[str, TinyPart]) -> tuple[str, ...]:
    """The families with networks of this shape. Of the wide network there is one family alone."""
    if any(found.arguments.get("wide") for found in parts.values()):
        return tuple(family for name, family in NAMES_OF_FAMILIES.items() if name.endswith("_wide"))
    first = next(iter(parts.values())).network
    return tuple(family for family in FAMILIES if fits(first, native_format(family)))


# Two roundings to bfloat16's 8 bits, of the catalogue's values and of the file's own.
_ROUNDING = 2.0**-7


def _by_values(parts: dict[str, TinyPart], fitting: Iterable[str]) -> str:
    """The family of which this is a conversion: the same numbers in another precision or layout.

    Eight numbers that agree to 1 % are no chance. Weights that were trained on have others; they are not told by this.
    """
    for row in CATALOG:
        part = row.parts[0]
        if not row.first_values or row.family not in fitting or part not in parts:
            continue
        found = parts[part]
        name = found.keys[{"encoder": "0.weight", "decoder": "1.weight"}[part]]
        values = found.file.load([name])[name].flatten()[:8].double().tolist()
        if all(abs(a - b) <= _ROUNDING * abs(b) for a, b in zip(values, row.first_values, strict=True)):
            return row.family
    return ""


# A scale may be stored in half precision.
_SAME_SCALE = 0.01


def _by_own_words(file: TensorFile, parts: dict[str, TinyPart], fitting: tuple[str, ...]) -> str:
    """What the file says of itself."""
    if file.metadata.get("family") in fitting:
        return file.metadata["family"]
    # ComfyUI's combined files call their keys "taesd_decoder." in every family, and tell them apart by the scale.
    if file.shapes.get("vae_scale") in ((), (1,)):
        scale = float(file.load(["vae_scale"])["vae_scale"])
        for family in fitting:
            known = native_format(family).scaling_factor
            if known != 1 and abs(scale - known) < _SAME_SCALE * known:
                return family
    keys = [name for found in parts.values() for name in found.keys.values()]
    told = {family for name in keys for family in _families_in(name.split(".", 1)[0]) if family in fitting}
    told.discard("taesd")
    return told.pop() if len(told) == 1 else ""


_FAMILY_NAME = re.compile("|".join(sorted(map(re.escape, NAMES_OF_FAMILIES), key=len, reverse=True)))

# What people write for a family besides its name. No letter or digit may touch it, but SDXL and FLUX may go on.
_WORDS = {row.family: re.compile(rf"(?<![a-z0-9])(?:{row.words})") for row in LATENT_FORMATS if row.words}


def _families_in(text: str) -> list[str]:
    """The families whose names are in a text, however their parts are joined: "taew2.1", "taew2-1"."""
    return [NAMES_OF_FAMILIES[name] for name in _FAMILY_NAME.findall(re.sub(r"[ .-]+", "_", text.lower()))]


def _by_name(text: str, fitting: tuple[str, ...]) -> str:
    """The one family that a file's name has in it. "taesd" counts last: people call every family so."""
    text = text.lower()
    names = {family for family in _families_in(text) if family in fitting}
    rest = _FAMILY_NAME.sub(" ", text)
    words = {family for family in fitting if family in _WORDS and _WORDS[family].search(rest)}
    found = names - {"taesd"} or words or names
    return found.pop() if len(found) == 1 else ""


def _by_folder(text: str, fitting: tuple[str, ...]) -> str:
    """The one family that a folder's whole name is."""
    found = {family for family in fitting if text == family or (family in _WORDS and _WORDS[family].fullmatch(text))}
    return found.pop() if len(found) == 1 else ""
