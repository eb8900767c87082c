"""Moments and finished pictures through a decoder, beside what the page showed of them."""

from __future__ import annotations

import pytest

from taesd_ext.settings import PreviewSettings
from taesd_ext.ui import compat
from taesd_ext.ui.decoding import decode_again
from taesd_ext.ui.pictures import sample_picture
from taesd_ext.ui.play import Plan, generate
from taesd_ext.ui.playground import Playground
from taesd_ext.ui.redecode_box import find_latent, latent_choice, latent_key, preview_of, result_html
from taesd_ext.ui.timeline_tab import job_choice, moments_of


@pytest.fixture(scope="module")
def actions(random_weights):
    playground = Playground(random_weights)
    settings = PreviewSettings(family="taesd", detail="1/4", budget=0, min_time=0)
    plan = Plan(sample_picture("Leaves"), 64, 3, 0.0, settings, "leaves")
    for _ in range(2):
        list(generate(plan, playground.codec_for, lambda _seconds: None, playground.kept))
    return playground.actions()


def test_a_jobs_moments_are_offered_by_name(actions):
    newest, older = actions.jobs()
    assert [kept.job for kept in moments_of(actions, None)] == [newest.id] * 4
    offered = moments_of(actions, job_choice(older))
    assert [(kept.job, kept.step) for kept in offered] == [(older.id, step) for step in (None, 3, 2, 1)]
    assert len({latent_key(kept) for kept in offered}) == 4
    for kept in offered:
        assert find_latent(offered, latent_choice(kept)) is kept
        assert compat.key_of(latent_choice(kept)).startswith(f"job {older.id}")
    assert find_latent(offered, "/etc/passwd") is None


def test_a_full_picture_stands_beside_its_preview_and_another_of_its_job(actions):
    finished, *steps = moments_of(actions, None)
    first, last = (decode_again(actions, kept, "taesd") for kept in (finished, steps[1]))
    preview = preview_of(actions, steps[1])
    assert preview.step == 2
    assert preview_of(actions, finished) is None
    assert result_html(first, None).count("<img") == 1
    assert result_html(last, None, preview).count("<img") == 2
    assert result_html(last, first, preview).count("<img") == 2
    assert result_html(first, first).count("<img") == 1


def test_where_pages_belong_to_different_people_nothing_is_offered(actions, monkeypatch):
    monkeypatch.setattr(actions, "allowed_to_change", lambda: False)
    assert moments_of(actions, None) == []
