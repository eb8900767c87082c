"""The panel's tabs, by the functions behind their buttons; the page around them is the browser tests' matter."""

import shutil
from dataclasses import replace

import gradio as gr
import pytest
import torch
from events import events, pressed

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import embedded_families, embedded_names
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.commands.compare import usable_codecs
from taesd_ext.commands.round_trip import RoundTrip, measure
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES, ModelEvidence, detect, from_family_latent
from taesd_ext.preview.job_history import JobHistory
from taesd_ext.settings import OPTION, OPTIONS
from taesd_ext.ui import compat, models_tab
from taesd_ext.ui.actions import ExtraDecoder
from taesd_ext.ui.compare_tab import ORIGINAL, images_of, pair_html, table_html
from taesd_ext.ui.decoding import decode_again, decoder_names
from taesd_ext.ui.downloads import download_choices, missing_families
from taesd_ext.ui.markup import cost_words
from taesd_ext.ui.models_tab import describe, families_html, our_files, removable_files, report, status_html
from taesd_ext.ui.pictures import fitted, sample_picture
from taesd_ext.ui.play_tab import family_choices
from taesd_ext.ui.playground import build_page
from taesd_ext.ui.redecode_box import find_latent, latent_choice
from taesd_ext.ui.settings_tab import build_settings_tab, detail_samples, written
from taesd_ext.ui.timeline_tab import film_html, find_job, job_choice
from taesd_ext.ui.work import Task
from taesd_ext.weights.identify import identify
from taesd_ext.weights.installed import installed


@pytest.fixture(scope="module")
def page(random_weights):
    return build_page(random_weights)


@pytest.fixture(scope="module")
def numbers(page):
    """elem_id -> the block's number in the page."""
    ids = [(block.elem_id, key) for key, block in page.blocks.items() if getattr(block, "elem_id", None)]
    assert len(ids) == len(dict(ids)), "every elem_id is its own"
    return dict(ids)


def test_every_option_has_a_control(page, numbers):
    assert {f"taesd_option_{option.name}" for option in OPTIONS} <= numbers.keys()
    assert sum(isinstance(block, gr.Tab) for block in page.blocks.values()) == 8


def test_a_film_and_a_comparison_are_changed_by_one_event_of_the_users(page, numbers):
    """A second one could come late, over what the user did meanwhile."""
    assert sum(numbers["taesd_film"] in row["outputs"] for _, row in events(page)) == 1
    targets = [target for _, row in events(page) for target in row["targets"] if not isinstance(target, int)]
    assert "change" not in {name for key, name in targets if key == numbers["taesd_compare_picture"]}


def test_no_two_actions_share_a_bar(page):
    """The answer of one would hide the other's, and what nobody asks for ends."""
    started = [(function, row) for function, row in events(page) if getattr(function, "__name__", "") == "start"]
    bars = {function.__self__: row["outputs"][0] for function, row in started}
    assert len(bars) >= 10
    assert len(set(bars.values())) == len(bars)


def test_no_event_waits_in_the_queue_behind_other_pages(page):
    called = [row for function, row in events(page) if function]
    assert len(called) > 40
    assert [row for row in called if row["queue"] is not False] == []


def test_a_page_that_opens_may_send_a_family_under_the_words_of_before(page, numbers):
    family = page.blocks[numbers["taesd_family"]]
    assert family.preprocess("taesd · words of before") == "taesd · words of before"


def test_families_with_weights_are_offered_first(actions):
    choices = family_choices(installed(actions.codecs.folders()))
    assert len(choices) == len(FAMILIES)
    assert [compat.key_of(choice) for choice in choices if "no weights" not in choice] == ["taesd"]
    assert compat.key_of(choices[0]) == "taesd"


def test_the_models_table_says_what_is_there_and_whether_reduced_detail_is(playground):
    folders = playground.actions().codecs.folders()
    quick, whole, again = (families_html(folders, look=look) for look in (False, True, False))
    assert "taesd_decoder.safetensors" in quick
    assert "…" in quick
    # Nobody has seen these weights before; the encoder's line says nothing about it.
    assert [html.count(models_tab.NO_DETAILS) for html in (quick, whole, again)] == [0, 1, 1]
    assert "taesd" not in missing_families(folders)
    assert "taesdxl" in missing_families(folders)
    assert len(download_choices()) >= len(missing_families(folders))


def test_the_models_table_tells_what_is_embedded_from_what_is_missing(tmp_path):
    rows = families_html([tmp_path]).split("<tr>")
    states = {family: row for family in FAMILIES for row in rows if f"<td>{family}</td>" in row}
    assert {family for family, row in states.items() if "embedded" in row} == set(embedded_families())
    assert {family for family, row in states.items() if "missing" in row} == set(FAMILIES) - set(embedded_families())


def test_what_is_wrong_is_shown_with_its_cure(playground, weights, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    look = next(function for function, _ in events(build_page(weights)) if getattr(function, "__name__", "") == "rest")
    assert look(None)[1] == ""
    (weights / "taesd_decoder.safetensors").write_bytes(b"<html>log in</html>")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    html = look(None)[1]
    assert html.count("taesd-ext-warning") >= 2
    assert "taesd_decoder.safetensors" in html
    assert "<html>" not in html


def test_the_report_and_the_status_name_the_last_error(actions):
    actions.program, actions.last_error = "A1111 1.10.1", lambda: "It broke. Mend it."
    text = report(actions)
    for words in ("A1111 1.10.1", "It broke. Mend it.", "a preview at detail full"):
        assert words in text
    assert "It broke. Mend it." in status_html(actions)


def test_only_files_of_ours_are_offered_and_only_those_in_our_folder_removed(actions, weights, tmp_path):
    """models/VAE-approx/model.pt is the WebUI's own, though the folder is searched."""
    approx = tmp_path / "VAE-approx"
    approx.mkdir()
    torch.save({"conv1.weight": torch.zeros(8, 4, 7, 7)}, approx / "model.pt")
    shutil.copy(weights / "taesd_decoder.safetensors", approx / "taesd_decoder.safetensors")
    (weights / "broken.safetensors").write_bytes(b"nonsense")
    kinds = [describe(identify(weights / f"{name}.safetensors"))[1] for name in ("taesd_decoder", "broken")]
    assert kinds == ["info", "bad"]
    actions.codecs = replace(actions.codecs, folders=lambda: [weights, approx])

    offered, removable = our_files(actions), removable_files(actions)
    assert approx / "model.pt" not in offered
    assert approx / "taesd_decoder.safetensors" in offered
    assert {path.parent for path in removable} == {weights}
    assert weights / "broken.safetensors" in removable


def test_the_file_that_was_confirmed_is_removed(weights):
    remove = pressed(build_page(weights), "taesd_remove")
    encoder, decoder = (weights / f"taesd_{part}.safetensors" for part in ("encoder", "decoder"))
    remove(None)  # not confirmed
    assert encoder.exists()
    assert "taesd-ext-good" in remove(str(encoder))[0]
    assert (encoder.exists(), decoder.exists()) == (False, True)
    assert "taesd-ext-bad" in remove(str(encoder))[0]


def test_the_page_can_tell_which_model_it_shows(actions):
    """By it javascript/taesd_ext.js sees that another one was loaded."""
    assert 'data-model=""' in status_html(actions)
    actions.detection = lambda: detect(ModelEvidence(flags=frozenset({"is_sdxl"}), channels=4))
    assert 'data-model="sdxl"' in status_html(actions)


def test_settings_are_checked_before_they_are_written(actions):
    interval = OPTION["interval"]
    assert written(actions, interval, 7.0) == ""
    for wrong in (1000, None):
        assert "0 to 100" in written(actions, interval, wrong)
    assert actions.read_settings()["interval"] == 7

    def refuse(_name, _value):
        raise TaesdError("Settings are frozen")

    actions.write_setting = refuse
    assert "Settings are frozen" in written(actions, interval, 3)
    assert written(actions, interval, 7) == ""


def test_the_hosts_own_control_of_a_setting_shows_what_is_set_here(actions):
    """It would be sent back with all others when any of the host's settings is applied."""
    with gr.Blocks() as page:
        hosts_control = gr.Slider(0, 100)
        actions.hosts_controls = {"interval": hosts_control}
        with gr.Tabs(), gr.Tab("Settings") as tab:
            build_settings_tab(actions, tab)
    (write,) = [function for function, row in events(page) if hosts_control._id in row["outputs"]]
    for given, said in ((7, ""), (1000, "0 to 100")):
        line, update = write(given).values()
        assert said in line
        assert update["value"] == 7


def test_the_last_picture_is_shown_at_each_detail_and_what_its_previews_cost(actions):
    assert "4 previews at detail full" in cost_words(actions.session().stats)
    assert detail_samples(actions, Task()).count("<img") == len(actions.codecs.load("taesd").details)
    actions.history = JobHistory()
    with pytest.raises(TaesdError):
        detail_samples(actions, Task())


def test_a_model_with_another_scale_is_shown_in_its_own(actions, monkeypatch):
    (kept,) = actions.kept()
    scaled = replace(kept.latent_format, name="of another scale", scaling_factor=3.0)
    actions.history = JobHistory()
    actions.history.add_finished(actions.history.begin(), from_family_latent(kept.latent, scaled), scaled)
    decoded = []
    picture = torch.zeros(1, 3, 8, 8)
    monkeypatch.setattr(Codec, "decode", lambda _codec, latent, **_how: decoded.append(latent) or picture)
    detail_samples(actions, Task())
    torch.testing.assert_close(decoded[0], kept.latent)


def test_the_film_strip_has_the_jobs_frames(actions):
    (job,) = actions.jobs()
    assert film_html(job).count("data-frame=") == 4
    assert find_job(actions, job_choice(job)).id == job.id
    assert find_job(actions, "nonsense") is find_job(actions, "job 77") is None


def test_a_finished_latent_is_decoded_once_more(actions):
    (kept,) = actions.kept()
    marked = ExtraDecoder("the host's", lambda latent: torch.full((1, 3, 32, 32), 0.25))
    refused = ExtraDecoder("another model's", lambda latent: latent, accepts=lambda _format: False)
    broken = ExtraDecoder("broken", lambda latent: torch.full((1, 3, 8, 8), float("nan")))
    codecs = replace(actions.codecs, extra_decoders=lambda: [marked, refused, broken])

    assert decoder_names(codecs, kept)[:3] == ["the host's", "broken", "taesd"]
    assert decode_again(codecs, kept, "the host's").picture.getpixel((5, 5)) == (64, 64, 64)
    wanted = codecs.load("taesd").decode(kept.latent)
    again = decode_again(codecs, kept, "taesd").picture
    assert again.tobytes() == (wanted * 255).round().byte()[0].permute(1, 2, 0).numpy().tobytes()
    with pytest.raises(TaesdError, match="NaN"):
        decode_again(codecs, kept, "broken")
    assert find_latent(actions.kept(), latent_choice(kept)).latent is kept.latent
    assert compat.key_of(latent_choice(kept)).startswith(compat.key_of(job_choice(actions.jobs()[0])))


def test_latents_of_an_unknown_model_have_no_decoder(actions):
    (kept,) = actions.kept()
    actions.history.add_finished(kept.job, kept.latent, None)
    newest = actions.kept()[0]
    assert decoder_names(actions.codecs, newest) == []
    assert latent_choice(newest)


def test_a_comparison_shows_each_codec_and_where_it_differs(actions):
    assert usable_codecs(actions.codecs.folders()) == ["taesd", *embedded_names()]
    image = picture_to_image(fitted(sample_picture("Leaves"), 64))
    rows = [measure(actions.codecs.load("taesd"), image), RoundTrip("taesd3", "", error="It broke.")]
    images = images_of((image, rows))
    assert list(images) == [ORIGINAL, "taesd"]
    assert "dB" in table_html(rows)
    assert "It broke." in table_html(rows)
    assert [pair_html(images, ORIGINAL, "taesd", difference).count("<img") for difference in (False, True)] == [2, 2]
    assert pair_html(images, ORIGINAL, "taesd3", False) == ""
