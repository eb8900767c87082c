"""A WebUI whose previews are by another method: what is offered, what accepting it changes, and who may."""

from types import SimpleNamespace

import pytest

from taesd_ext.commands.switch_on import METHOD, PERIOD
from taesd_ext.errors import TaesdError
from taesd_ext.host.tab import preview_offer
from taesd_ext.ui.preview_offer import offer_html


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
