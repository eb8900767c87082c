"""Live previews and tiny VAEs (TAESD and its kin) for Stable Diffusion WebUIs, and for anything with torch.

>>> from taesd_ext import load_codec
>>> codec = load_codec("taesd", models_dir="models/VAE-taesd")
>>> image = codec.decode(latent)
"""

from __future__ import annotations

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.errors import TaesdError

__version__ = "0.1.0"

__all__ = ["Codec", "TaesdError", "__version__", "load_codec"]
