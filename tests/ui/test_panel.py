"""The panel's tabs, by the functions behind their buttons; the page around them is the browser tests' matter."""

from __future__ import annotations

import shutil

import gradio as gr
import pytest
import torch

from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, ModelEvidence, detect
from taesd_ext.settings import OPTION, OPTIONS, PreviewSettings
from taesd_ext.ui import compat, texts
from taesd_ext.ui.actions import ExtraDecoder
from taesd_ext.ui.compare_tab import Comparison, codec_names, pair_html, table_html
from taesd_ext.ui.decoding import decode_again, decoder_names
from taesd_ext.ui.downloads import download_choices, missing_families
from taesd_ext.ui.markup import cost_words
from taesd_ext.ui.models_tab import (
    describe,
    findings_html,
    our_files,
    removable_files,
    status_html,
)
from taesd_ext.ui.models_table import families_html
from taesd_ext.ui.pictures import fitted, sample_picture
from taesd_ext.ui.play import Plan, generate
from taesd_ext.ui.play_tab import family_choices
from taesd_ext.ui.playground import Playground, build_page
from taesd_ext.ui.redecode_box import find_latent, latent_choice
from taesd_ext.ui.report_box import report
from taesd_ext.ui.settings_tab import _and_show_to_host, _detail_samples, _writer, build_settings_tab
from taesd_ext.ui.timeline_tab import film_html, find_job, find_or_none, job_choice
from taesd_ext.ui.work import Task
from taesd_ext.weights.identify import identify
from taesd_ext.weights.installed import installed


@pytest.fixture
def playground(random_weights, no_weights):
    """With the random weights in a folder of its own, which tests may change."""
    for path in random_weights.iterdir():
        shutil.copy(path, no_weights)
    return Playground(no_weights)


@pytest.fixture
def generated(playground):
    """After one generation of four steps."""
    settings = PreviewSettings(family="taesd", budget=0.0, min_time=0, detail="full")
    plan = Plan(sample_picture("Leaves"), 64, 4, 0.0, settings, "Leaves")
    list(generate(plan, playground.codec_for, lambda _seconds: None, playground.kept))
    return playground


def test_the_whole_page_is_built_and_names_every_tab(random_weights):
    page = build_page(random_weights)

    assert isinstance(page, gr.Blocks)
    labels = {block.label for block in page.blocks.values() if isinstance(block, gr.Tab)}
    assert labels == {
        text.label for text in (
            texts.PLAY, texts.MODELS, texts.SETTINGS, texts.COMPARE, texts.LATENTS, texts.TIMELINE, texts.REDECODE,
            texts.BENCHMARK,
        )
    }  # fmt: skip


def test_every_option_has_a_control_and_every_elem_id_is_its_own(random_weights):
    page = build_page(random_weights)
    ids = [block.elem_id for block in page.blocks.values() if getattr(block, "elem_id", None)]

    assert len(ids) == len(set(ids))
    assert {f"taesd_option_{option.name}" for option in OPTIONS} <= set(ids)


def test_choices_carry_their_key():
    assert compat.key_of(compat.choice("taesd", "Stable Diffusion · more")) == "taesd"
    assert compat.key_of(None) == ""


def test_families_with_weights_are_offered_first(playground, no_weights):
    choices = family_choices(installed(playground.folders()))

    assert len(choices) == len(FAMILIES)
    assert compat.key_of(choices[0]) == "taesd"
    assert "no weights" not in choices[0]
    assert all("no weights" in choice for choice in choices[1:])


def test_the_models_table_says_what_is_there(playground):
    html = families_html(playground.folders())

    assert "taesd_decoder.safetensors" in html
    assert html.count(texts.UNVERIFIED) == 2
    assert "missing" in html
    assert "taesd" not in missing_families(playground.folders())
    assert "taesdxl" in missing_families(playground.folders())
    assert len(download_choices()) >= len(missing_families(playground.folders()))


def test_the_models_table_says_whether_reduced_detail_is_there(playground, no_weights):
    folders = playground.folders()
    quick = families_html(folders, look=False)
    assert "…" in quick
    assert texts.DETAILS_NONE not in quick
    # Nobody has seen these weights before; the encoder's line says nothing about it.
    assert families_html(folders).count(texts.DETAILS_NONE) == 1
    assert families_html(folders, look=False).count(texts.DETAILS_NONE) == 1


def test_what_is_wrong_is_shown_with_its_cure(playground, no_weights, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert findings_html(playground.actions()) == ""
    (no_weights / "taesd_decoder.safetensors").write_bytes(b"<html>log in</html>")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    html = findings_html(playground.actions())
    assert "unset it" in html
    assert "taesd_decoder.safetensors" in html
    assert "<html>" not in html


def test_the_report_names_the_program_and_the_last_error(generated):
    actions = generated.actions()
    actions.program, actions.last_error = "A1111 1.10.1", lambda: "It broke. Mend it."

    text = report(actions)
    assert "A1111 1.10.1" in text
    assert "It broke. Mend it." in text
    assert "a preview at detail full" in text


def test_a_file_is_described_for_a_person(playground, no_weights):
    line, kind = describe(identify(no_weights / "taesd_decoder.safetensors"))
    assert "cannot be verified" in line
    assert kind == "info"
    broken = no_weights / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    assert describe(identify(broken))[1] == "bad"


def test_only_files_of_ours_are_offered_and_only_those_in_our_folder_removed(playground, no_weights, tmp_path):
    """models/VAE-approx/model.pt is the WebUI's own, though the folder is searched."""
    approx = tmp_path / "VAE-approx"
    approx.mkdir()
    torch.save({"conv1.weight": torch.zeros(8, 4, 7, 7)}, approx / "model.pt")
    shutil.copy(no_weights / "taesd_decoder.safetensors", approx / "taesd_decoder.safetensors")
    (no_weights / "broken.safetensors").write_bytes(b"nonsense")
    actions = playground.actions()
    actions.folders = lambda: [no_weights, approx]

    offered, removable = our_files(actions), removable_files(actions)
    assert approx / "model.pt" not in offered
    assert approx / "taesd_decoder.safetensors" in offered
    assert {path.parent for path in removable} == {no_weights}
    assert no_weights / "broken.safetensors" in removable


def test_the_last_error_and_the_notes_are_shown(playground):
    actions = playground.actions()
    actions.last_error = lambda: "It broke. Mend it."
    actions.notes.append("Something to know.")

    html = status_html(actions)
    assert "It broke. Mend it." in html
    assert "Something to know." in html


def test_the_page_can_tell_which_model_it_shows(playground):
    """By it javascript/taesd_ext.js sees that another one was loaded."""
    actions = playground.actions()
    assert 'data-model=""' in status_html(actions)
    actions.detection = lambda: detect(ModelEvidence(flags=frozenset({"is_sdxl"}), channels=4))
    assert 'data-model="sdxl"' in status_html(actions)


def test_settings_are_checked_before_they_are_written(playground):
    actions = playground.actions()
    write = _writer(actions, OPTION["interval"])

    assert write(7.0) == ""
    assert playground.settings["interval"] == 7
    assert "0 to 100" in write(1000)
    assert "0 to 100" in write(None)
    assert playground.settings["interval"] == 7


def test_a_setting_that_the_host_refuses_is_said(playground):
    actions = playground.actions()

    def refuse(_name, _value):
        raise TaesdError("Settings are frozen")

    actions.write_setting = refuse
    assert "Settings are frozen" in _writer(actions, OPTION["interval"])(3)
    assert _writer(actions, OPTION["interval"])(actions.read_settings()["interval"]) == ""


def test_the_hosts_own_control_of_a_setting_shows_what_is_set_here(playground):
    """It would be sent back with all others when any of the host's settings is applied."""
    actions = playground.actions()
    with gr.Blocks() as page:
        hosts_control = gr.Slider(0, 100)
        actions.hosts_controls = {"interval": hosts_control}
        with gr.Tabs(), gr.Tab("Settings") as tab:
            build_settings_tab(actions, tab)
    (setter,) = [row for row in page.get_config_file()["dependencies"] if hosts_control._id in row["outputs"]]
    assert len(setter["outputs"]) == 2

    write = _and_show_to_host(actions, OPTION["interval"], _writer(actions, OPTION["interval"]))
    for given, line, shown in ((7, "", 7), (1000, "0 to 100", 7)):
        said, update = write(given)
        assert line in said
        assert update["value"] == shown


def test_what_previews_cost_is_the_measured_one(generated):
    html = cost_words(generated.kept.session.stats)
    assert "4 previews at detail full" in html


def test_the_last_picture_is_shown_at_each_detail(generated):
    html = _detail_samples(generated.actions(), Task())
    assert html.count("<img") == len(generated.codec_for("taesd").details)


def test_without_a_picture_there_are_no_samples(playground):
    with pytest.raises(TaesdError, match=texts.NO_LATENT):
        _detail_samples(playground.actions(), Task())


def test_the_film_strip_has_the_jobs_frames(generated):
    actions = generated.actions()
    (job,) = actions.jobs()

    assert film_html(job).count("data-frame=") == 4
    assert find_job(actions, job_choice(job)).id == job.id
    assert find_or_none(actions, "nonsense") is None
    with pytest.raises(TaesdError, match="gone"):
        find_job(actions, "job 77")


def test_a_finished_latent_is_decoded_once_more(generated):
    actions = generated.actions()
    (kept,) = generated.kept.history.finished()
    marked = ExtraDecoder("the host's", lambda latent: torch.full((1, 3, 64, 64), 0.25))
    refused = ExtraDecoder("another model's", lambda latent: latent, accepts=lambda _format: False)
    actions.extra_decoders = lambda: [marked, refused]

    assert decoder_names(actions, kept) == ["the host's", "taesd"]
    assert decode_again(actions, kept, "the host's").picture.getpixel((5, 5)) == (64, 64, 64)
    again = decode_again(actions, kept, "taesd")
    wanted = generated.codec_for("taesd").decode(kept.latent)
    assert again.picture.tobytes() == (wanted * 255).round().byte()[0].permute(1, 2, 0).numpy().tobytes()
    assert find_latent(actions.kept(), latent_choice(kept)).latent is kept.latent
    assert compat.key_of(latent_choice(kept)).startswith(compat.key_of(job_choice(actions.jobs()[0])))


def test_a_decoder_that_makes_nan_saves_nothing(generated):
    actions = generated.actions()
    (kept,) = generated.kept.history.finished()
    actions.extra_decoders = lambda: [ExtraDecoder("broken", lambda latent: torch.full((1, 3, 8, 8), float("nan")))]

    with pytest.raises(TaesdError, match="invalid image"):
        decode_again(actions, kept, "broken")


def test_latents_of_an_unknown_model_have_no_decoder(generated):
    (kept,) = generated.kept.history.finished()
    generated.kept.history.add_finished(kept.job, kept.latent, None)
    newest = generated.kept.history.finished()[0]

    assert decoder_names(generated.actions(), newest) == []
    assert latent_choice(newest)


def test_a_comparison_shows_each_codec_and_where_it_differs(playground):
    from taesd_ext.codec.picture_file import picture_to_image
    from taesd_ext.commands.round_trip import RoundTrip, measure

    assert codec_names(playground.actions()) == ["taesd"]
    image = picture_to_image(fitted(sample_picture("Leaves"), 64))
    failed = RoundTrip("taesd3", "", error="It broke.")
    done = Comparison(image, (measure(playground.codec_for("taesd"), image), failed))

    assert done.names == [texts.ORIGINAL, "taesd"]
    assert "dB" in table_html(done)
    assert "It broke." in table_html(done)
    assert pair_html(done, texts.ORIGINAL, "taesd", False).count("<img") == 2
    assert texts.DIFFERENCE.label in pair_html(done, texts.ORIGINAL, "taesd", True)
    assert pair_html(done, texts.ORIGINAL, "taesd3", False) == ""
    assert pair_html(None, "", "", False) == ""
