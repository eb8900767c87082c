"""The REST routes: nothing sent to them makes a 500."""

from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_api import POST, base64_picture

from taesd_ext.host import api, api_routes

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


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(POST), body=st.dictionaries(FIELDS, VALUES, max_size=4) | JSON)
def test_nothing_posted_makes_a_500(client, monkeypatch, path, body):
    monkeypatch.setattr(api_routes, "time_preview", lambda *_: (1.0, (8, 8)))  # an empty body would start one
    answer = client.post(f"{api.PREFIX}/{path}", json=body)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(job=ID, number=ID, query=QUERY)
def test_nothing_asked_for_makes_a_500(client, job, number, query):
    job, number = (quote(str(part), safe="") for part in (job, number))
    for path in (f"frames/{number}", "animation", f"moments/{number}/picture", f"moments/{number}/latent"):
        answer = client.get(f"{api.PREFIX}/timeline/{job}/{path}", params=query)
        assert answer.status_code < 500, answer.text
