"""The embedded codecs: a small encoder and a small decoder of our own, for families of which no file is there."""

from pathlib import Path

import torch
from torch import nn

from taesd_ext.codec.previewer import DATA, read_previewer, read_shipped, save_shipped
from taesd_ext.latent_formats import FAMILIES, LatentFormat, native_format
from taesd_ext.models.student import SmallDecoder, SmallEncoder
from taesd_ext.weights.tiny_file import build_frozen

EMBEDDED_SUFFIX = "-embedded"
"""After a family's name: its embedded codec, whatever files are there."""

_PREVIEWER = "previewer."
"""The decoder's part that has a file of its own."""


def embedded_file(latent_format: LatentFormat) -> Path | None:
    """The shipped file, made by `python -m taesd_ext learn --codec`; None for a format without one."""
    path = DATA / f"codec_{latent_format.name}.safetensors"
    return path if path.is_file() else None


def embedded_families() -> tuple[str, ...]:
    """The families that have an embedded codec."""
    return tuple(family for family in FAMILIES if embedded_file(native_format(family)))


def embedded_names() -> list[str]:
    """Under which :func:`taesd_ext.load_codec` gives the embedded codecs in any case."""
    return [f"{family}{EMBEDDED_SUFFIX}" for family in embedded_families()]


def embedded_networks(latent_format: LatentFormat) -> dict[str, nn.Module]:
    """Encoder and decoder, float32 on the CPU; none for a format without an embedded codec."""
    path = embedded_file(latent_format)
    if path is None:
        return {}
    state = read_shipped(path)
    previewer = read_previewer(latent_format.name)
    with torch.device("meta"):
        decoder = SmallDecoder(previewer)
        encoder = SmallEncoder(latent_format.latent_channels, overview=previewer.overview is not None)
    parts = {
        part: {name.partition(".")[2]: value for name, value in state.items() if name.startswith(f"{part}.")}
        for part in ("encoder", "decoder")
    }
    parts["decoder"] |= {f"{_PREVIEWER}{name}": value for name, value in previewer.state_dict().items()}
    return {"encoder": build_frozen(encoder, parts["encoder"]), "decoder": build_frozen(decoder, parts["decoder"])}


def save_embedded(encoder: SmallEncoder, decoder: SmallDecoder, path: Path, format_name: str) -> None:
    """Write both networks, without the previewer in the decoder."""
    parts = {"encoder": encoder, "decoder": decoder}
    state = {f"{part}.{name}": value for part, network in parts.items() for name, value in network.state_dict().items()}
    own = {name: value for name, value in state.items() if not name.startswith(f"decoder.{_PREVIEWER}")}
    save_shipped(own, path, "codec", format_name)
