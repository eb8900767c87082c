"""Moments and finished pictures through a decoder, beside what the page showed of them."""

from dataclasses import replace

import gradio as gr
import pytest
from events import finished, pressed

from taesd_ext.codec.picture_file import picture_uri
from taesd_ext.ui import compat
from taesd_ext.ui.decoded_box import preview_of, result_html
from taesd_ext.ui.decoding import decode_again
from taesd_ext.ui.live_moment import ELEM_ID, build_live_moment
from taesd_ext.ui.panel import build_panel
from taesd_ext.ui.redecode_box import find_latent, latent_choice, latent_key
from taesd_ext.ui.timeline_tab import job_choice, moments_of


@pytest.fixture
def page(actions):
    with gr.Blocks() as page, gr.Tabs():
        build_panel(actions, page)
    return page


def test_a_jobs_moments_are_offered_by_name(actions):
    (job,) = actions.jobs()
    assert [kept.job for kept in moments_of(actions, None)] == [job.id] * 5
    offered = moments_of(actions, job_choice(job))
    assert [kept.step for kept in offered] == [None, 4, 3, 2, 1]
    assert len({latent_key(kept) for kept in offered}) == 5
    for kept in offered:
        assert find_latent(offered, latent_choice(kept)) is kept
        assert compat.key_of(latent_choice(kept)).startswith(f"job {job.id}")
    assert find_latent(offered, "/etc/passwd") is None
    assert job_choice(replace(job, inner=True)) != job_choice(job)
    actions.allowed_to_change = lambda: False
    assert moments_of(actions, None) == []


def test_a_full_picture_stands_beside_its_preview_and_another_of_its_job(actions):
    finished, *steps = moments_of(actions, None)
    first, last = (decode_again(actions.codecs, kept, "taesd") for kept in (finished, steps[1]))
    assert first.size == 3 * 32 * 32 + finished.latent.nbytes
    preview = preview_of(actions, steps[1])
    assert preview.step == 3
    assert preview_of(actions, finished) is None
    assert result_html(first, None).count("<img") == 1
    assert result_html(last, None, preview).count("<img") == 2
    assert result_html(last, first, preview).count("<img") == 2
    assert result_html(first, first).count("<img") == 1
    apart = result_html(last, first, difference=True)
    assert apart.count("<img") == 2
    assert picture_uri(last.picture) in apart
    assert picture_uri(first.picture) not in apart


def test_the_moment_follows_a_frame_of_the_film(actions, page):
    follow = pressed(page, "taesd_moment_seen")
    moments = moments_of(actions, None)
    assert follow("step 3/4", None)["value"] == latent_choice(next(kept for kept in moments if kept.step == 3))
    for unknown in ("step 9/4", "", None):
        assert "value" not in follow(unknown, None)


WISHES = {
    "{job}/3": 2, "{parameters}": 1, "{job}/9": 0, "{job}/0": 0, "99/3": 0, "": 0, "../3": 0, "of another image": 0,
}  # fmt: skip
"""What the page asks for, and how many pictures that gives."""


@pytest.mark.parametrize("shared", [False, True])
def test_a_full_picture_beside_the_gallery(actions, shared):
    """Of a moment beside its preview, or of a finished image; nothing where pages belong to different people."""
    with gr.Blocks() as page:
        build_live_moment(actions)
    start = pressed(page, f"{ELEM_ID}_wanted")
    assert pressed(page, f"{ELEM_ID}_decoder").__self__ is start.__self__
    (job,) = actions.jobs()
    actions.history.finish(job.id, ["a leaf\nSteps: 4, Seed: 1"])
    actions.allowed_to_change = lambda: not shared
    for wish, pictures in WISHES.items():
        wanted = wish.format(job=job.id, parameters="a leaf \n\nSteps: 4, Seed: 1")
        _, key, *_ = start(None, f"{wanted}\n17", None, None, False)
        said, decoder, shown, *_ = finished(start.__self__, key)
        assert ("taesd-ext-good" in said) == (pictures > 0 and not shared), wish
        assert str(shown).count("<img") == (0 if shared else pictures), wish
        assert decoder.get("value") == ("taesd" if pictures and not shared else None), wish


def test_a_choice_made_while_the_list_is_read_stays(actions, page):
    """The decoders of another latent follow by its dropdown's own change, once."""
    look = pressed(page, "taesd_again_refresh")
    first, decoders, newest = look(None, None, None, "")
    assert first["value"] == latent_choice(actions.kept()[0])
    assert "choices" not in decoders
    again, decoders, _ = look(None, first["value"], "taesd", newest)
    assert "value" not in again
    assert decoders["choices"][0] == "taesd"
    assert "value" not in decoders
