"""The options as the host's Settings tab shows and stores them, and the offer to switch our previews on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from shown_texts import shown_texts

from taesd_ext.commands.switch_on import METHOD, PERIOD
from taesd_ext.errors import TaesdError
from taesd_ext.host.tab import preview_offer
from taesd_ext.settings import HOSTS_VAE, OPTION, OPTIONS
from taesd_ext.ui.preview_offer import offer_html

LOCALIZATIONS = sorted((Path(__file__).resolve().parents[2] / "localizations").glob("*.json"))


@pytest.mark.parametrize("path", LOCALIZATIONS, ids=lambda path: path.stem)
def test_label_and_help_are_translated_where_the_host_shows_them(host, path):
    table = json.loads(path.read_text(encoding="utf-8"))
    for option in OPTIONS:
        info = host.opts.data_labels[option.key]
        assert info.label in table
        assert [text for text in shown_texts(info.comment_after) if text not in table] == ["(", ")"]


@pytest.fixture
def config(host, monkeypatch, tmp_path):
    """The host's settings file, and what it holds."""
    file = tmp_path / "config.json"
    monkeypatch.setattr(host.shared, "config_filename", str(file), raising=False)
    host.opts.save(file)
    return lambda: json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("was_set", [True, False])
def test_an_option_that_cannot_be_saved_stays_as_it_was_and_so_do_all_others(host, extension, config, was_set):
    if not was_set:
        del host.opts.data["taesd_ext_final_vae"]
    extension.host.set_option("taesd_ext_interval", 7)
    before = config()
    with pytest.raises(TaesdError, match="was not changed"):
        extension.host.set_option("taesd_ext_final_vae", "\ud800")
    assert host.opts.taesd_ext_final_vae == HOSTS_VAE
    assert config() == before
    assert ("taesd_ext_final_vae" in before) is was_set


def test_an_option_that_the_host_keeps_is_said_to_be_unchanged(host, extension, monkeypatch):
    monkeypatch.setattr(type(host.opts), "set", lambda *_args, **_more: False)
    with pytest.raises(TaesdError, match="was not changed"):
        extension.options.set("interval", 9)


def test_only_what_is_offered_can_be_chosen(host, extension, config):
    for name, option in OPTION.items():
        if extension.options.choices(name):
            with pytest.raises(ValueError, match="was expected"):
                extension.options.set(name, "no such choice")
            extension.options.set(name, extension.options.choices(name)[-1])
            assert config()[option.key] == extension.options.choices(name)[-1]


def test_a_chosen_vae_whose_file_is_gone_is_still_shown_and_can_be_left(host, extension):
    host.opts.taesd_ext_final_vae = "gone"
    extension.options.set("final_vae", "gone")  # a page that shows it gives it back
    assert extension.options.value("final_vae") == "gone"
    extension.options.set("final_vae", HOSTS_VAE)
    with pytest.raises(ValueError, match="was expected"):
        extension.options.set("final_vae", "gone")


def test_the_controls_of_the_hosts_settings_tab_are_found(host, extension, monkeypatch):
    assert extension.actions().hosts_controls == {}
    shown = {"taesd_ext_detail": object(), "sd_vae": object()}  # the others may be quick settings
    monkeypatch.setattr(host.shared, "settings_components", shown, raising=False)
    assert extension.actions().hosts_controls == {"detail": shown["taesd_ext_detail"]}


@pytest.fixture
def offer(host, extension):
    host.opts.show_progress_type = "Approx NN"
    return preview_offer(extension.host, extension.options)


def test_accepting_it_makes_the_next_previews_ours_and_is_saved(offer, host, extension):
    host.opts.show_progress_every_n_steps = 10
    assert "Approx NN" in offer_html(offer)
    assert not extension.previews.are_ours()
    offer.accept()
    assert extension.previews.are_ours()
    assert host.opts.data[METHOD] == "TAESD"
    assert host.opts.data[PERIOD] == 1
    assert offer_html(offer) == ""


def test_dismissed_it_is_never_shown_under_a_generation_again(offer, host):
    assert "data-offer" in offer_html(offer)
    offer.dismiss()
    assert "data-offer" not in offer_html(offer)
    assert "Approx NN" in offer_html(offer)
    assert host.opts.data["taesd_ext_offer"] is False


def test_nothing_is_offered_where_the_page_may_not_change_it(offer, host, monkeypatch):
    monkeypatch.setattr(host.shared, "cmd_opts", SimpleNamespace(disable_extension_access=True), raising=False)
    assert offer.other_method() == ""
    with pytest.raises(TaesdError):
        offer.accept()
    assert host.opts.show_progress_type == "Approx NN"
    offer.dismiss()


def test_who_switched_previews_off_is_left_alone(offer, host):
    host.opts.live_previews_enable = False
    assert offer.other_method() == ""
