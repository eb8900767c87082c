"""Requests to the REST routes at random: what a client might send, and what none should."""

import base64
import io

from hypothesis import strategies as st
from PIL import Image


def base64_picture(size=(40, 24), kind="png") -> str:
    picture = Image.radial_gradient("L").resize(size).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["image", "latent", "family", "format", "name", "value", "side", "runs"])
KNOWN = ["taesd", "taesd3", "interval", "family", "png", "safetensors", base64_picture(), "AAAA", "../../x", 64]
VALUES = JSON | st.sampled_from(KNOWN)
QUERY = st.dictionaries(st.sampled_from(["kind", "length", "hold", "side"]), st.text(max_size=6) | st.integers())
ID = st.integers() | st.text(max_size=8)
