"""What everything here is made with. Imports nothing: it is read where packages are missing."""

from __future__ import annotations

NEEDED = {
    "torch": "torch",
    "gradio": "gradio",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "PIL": "pillow",
    "tqdm": "tqdm",
}
"""Module -> what pip calls it."""
