"""The REST routes: nothing sent to them makes a 500."""

from urllib.parse import quote

from api_requests import FIELDS, ID, JSON, QUERY, VALUES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taesd_ext.host import api, api_routes

POST = ("settings", "encode", "decode", "benchmark", "timeline/1/moments/1/save")


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
