"""Which family a tiny autoencoder is of: four channels leave taesd or taesdxl, sixteen leave taesd3 or taef1.

A wrong answer draws wrong colours. Evidence, best first: the official checksum, official values, what the file says of
itself (metadata, ComfyUI's scale, names of keys), its own name, its folder's name. Without any it is a guess, and
called so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from taesd_ext.errors import log_once
from taesd_ext.latent_formats import FAMILIES, LATENT_FORMATS, NAMES_OF_FAMILIES, native_format
from taesd_ext.weights.catalog import OfficialFile
from taesd_ext.weights.tensor_file import TensorFile
from taesd_ext.weights.tiny_file import TinyPart, fits

CONTENT, NAME, GUESS = "content", "name", "guess"


@dataclass(frozen=True)
class Told:
    """The families that a file may be of, likeliest first, and what tells: its content, its name, or nothing."""

    families: tuple[str, ...]
    evidence: str

    @property
    def is_guess(self) -> bool:
        """Several are left, and nothing tells which."""
        return self.evidence == GUESS and len(self.families) > 1

    def __str__(self) -> str:
        return " or ".join(self.families) if self.is_guess else (self.families or ("",))[0]


NOTHING_TOLD = Told((), GUESS)


def tell_family(file: TensorFile, parts: dict[str, TinyPart], official: OfficialFile | None) -> Told:
    """What the opened file, with these parts of a tiny autoencoder in it, is of. Raises TaesdError if it is damaged."""
    fitting = _fitting(parts)
    if official and official.family in fitting:
        return Told((official.family,), CONTENT)
    if not fitting:
        return NOTHING_TOLD
    found = _by_values(parts, fitting) or _by_own_words(file, parts, fitting)
    if found:
        return Told((found,), CONTENT)
    named = _named(file.path.stem, fitting) or _named(file.path.absolute().parent.name, fitting, whole=True)
    if named:
        return Told(tuple(dict.fromkeys((named, *fitting))), NAME)
    return Told(fitting, GUESS)


def _fitting(parts: dict[str, TinyPart]) -> tuple[str, ...]:
    """The families with networks of this shape. Of the wide network there is one family alone."""
    networks = [found.network for found in parts.values()]
    fitting = [family for family in FAMILIES if networks and fits(networks[0], native_format(family))]
    if any(getattr(network, "wide", False) for network in networks):
        fitting = [NAMES_OF_FAMILIES[name] for name in NAMES_OF_FAMILIES if name.endswith("_wide")]
    return tuple(fitting)


def say_if_guessed(file: TensorFile, told: Told) -> None:
    """Once for each file, where a codec is made of it."""
    if told.is_guess:
        log_once(
            f"guessed {file.path}",
            f"{file.path} is of {told}, and nothing tells which: it is taken for {told.families[0]}. "
            f"Put the family into its name if the colours are wrong, as in {told.families[1]}_decoder.safetensors.",
        )


# The first values of the first convolution of the official files (of taesd and taesdxl, version 1.3), in bfloat16.
_FIRST_VALUES: dict[tuple[str, str], tuple[float, ...]] = {
    ("taesd", "encoder"): (0.1299, -0.1494, 0.09326, -0.1562, -0.1357, 0.1895, 0.06128, 0.127),
    ("taesd", "decoder"): (-0.005615, 0.01782, -0.007385, 0.0008392, 0.1982, 0.002823, -0.005859, 0.009277),
    ("taesdxl", "encoder"): (-0.06299, -0.1348, -0.07324, 0.1079, 0.1426, -0.1167, 0.09375, 0.05591),
    ("taesdxl", "decoder"): (0.005249, 0.0003567, -0.003769, -0.001633, -0.01892, 0.0177, -0.004333, 0.00354),
    ("taesd3", "encoder"): (-0.02686, 0.08691, -0.09619, -0.1113, -0.004425, 0.01904, 0.1084, 0.105),
    ("taesd3", "decoder"): (0.01483, 0.03564, 0.0188, -0.00708, -0.03882, 0.05322, -0.02356, 0.0791),
    ("taef1", "encoder"): (-0.03394, 0.06396, -0.04224, -0.1074, 0.009216, 0.0354, 0.03735, 0.07129),
    ("taef1", "decoder"): (-0.005005, -0.006348, -0.006165, -0.03052, 0.07324, -0.00415, -0.001114, 0.01483),
}
# Two roundings to bfloat16's 8 bits, of the values above and of the file's own.
_ROUNDING = 2.0**-7


def _by_values(parts: dict[str, TinyPart], fitting: Iterable[str]) -> str:
    """The family of which this is a conversion: the same numbers in another precision or layout.

    Eight numbers that agree to 1 % are no chance. Weights that were trained on have others; they are not told by this.
    """
    for part, found in parts.items():
        known = {family: _FIRST_VALUES[family, part] for family in fitting if (family, part) in _FIRST_VALUES}
        if not known:
            continue
        name = found.keys[{"encoder": "0.weight", "decoder": "1.weight"}[part]]
        values = found.file.load([name])[name].flatten()[:8].double().tolist()
        for family, official in known.items():
            if all(abs(a - b) <= _ROUNDING * abs(b) for a, b in zip(values, official, strict=True)):
                return family
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


def _named(text: str, fitting: tuple[str, ...], *, whole: bool = False) -> str:
    """The one family that a name has in it, or is as a whole. "taesd" counts last: people call every family so."""
    text = text.lower()
    if whole:
        pieces = {family for family in fitting if text == family or _is_word(text, family)}
        return pieces.pop() if len(pieces) == 1 else ""
    names = {family for family in _families_in(text) if family in fitting}
    rest = _FAMILY_NAME.sub(" ", text)
    words = {family for family in fitting if family in _WORDS and _WORDS[family].search(rest)}
    for found in (names - {"taesd"}, words, names):
        if found:
            return found.pop() if len(found) == 1 else ""
    return ""


def _is_word(text: str, family: str) -> bool:
    return family in _WORDS and _WORDS[family].fullmatch(text) is not None
