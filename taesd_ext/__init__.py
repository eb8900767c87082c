"""Live previews and tiny VAEs (TAESD and its kin) for Stable Diffusion WebUIs, and for anything with torch.

>>> from taesd_ext import load_codec
>>> codec = load_codec("taesd", models_dir="models/VAE-taesd")
>>> image = codec.decode(latent)
"""

import importlib
from typing import TYPE_CHECKING, Any

from taesd_ext.errors import TaesdError

if TYPE_CHECKING:
    from taesd_ext.codec.codec import Codec
    from taesd_ext.codec.loading import load_codec

__version__ = "0.1.0"

__all__ = ["Codec", "TaesdError", "__version__", "load_codec"]

# Imported on first use: the command line's help and its message about missing packages do without torch.
_HOMES = {"Codec": "taesd_ext.codec.codec", "load_codec": "taesd_ext.codec.loading"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
