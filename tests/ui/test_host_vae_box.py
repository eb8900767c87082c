"""Full VAEs for the WebUI's own SD VAE setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from events import events
from full_vae_files import write_vae
from safetensors.torch import load_file

from taesd_ext.errors import TaesdError
from taesd_ext.ui import host_vae_box, texts
from taesd_ext.ui.actions import HostVAEs
from taesd_ext.ui.playground import Playground
from taesd_ext.ui.work import Task
from taesd_ext.weights.vae_layouts import LAYOUTS


class Page:
    """What the WebUI did."""

    def __init__(self, folder: Path) -> None:
        self.refreshed, self.shown = 0, []
        self.vaes = HostVAEs(folder, self.refresh, self.add)

    def refresh(self) -> None:
        self.refreshed += 1

    def add(self) -> bool:
        self.shown.append("sd_vae")
        return len(self.shown) == 1


@pytest.fixture
def playground(no_weights):
    return Playground(no_weights)


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "VAE")


def test_a_full_vae_is_copied_and_the_list_is_made_anew(page, tmp_path):
    dropped = write_vae(tmp_path / "my; vae.safetensors")
    line = host_vae_box.take(page.vaes, str(dropped))
    assert "my_ vae.safetensors" in line
    assert load_file(page.vaes.folder / "my_ vae.safetensors").keys() == load_file(dropped).keys()
    assert page.refreshed == 1
    with pytest.raises(TaesdError, match="already"):
        host_vae_box.take(page.vaes, str(dropped))
    assert page.refreshed == 1


def test_what_the_webui_cannot_load_is_refused(page, tmp_path, random_weights):
    for dropped, why in (
        (random_weights / "taesd_decoder.safetensors", "no full-size VAE"),
        (write_vae(tmp_path / "diffusers.safetensors", layout=LAYOUTS[2]), "original layout only"),
        (write_vae(tmp_path / "checkpoint.safetensors", prefix="first_stage_model."), "original layout only"),
        (write_vae(tmp_path / "half.safetensors", parts=("decoder",)), "lacks the encoder"),
    ):
        with pytest.raises(TaesdError, match=why):
            host_vae_box.take(page.vaes, str(dropped))
    assert not page.vaes.folder.exists()
    assert page.refreshed == 0


def test_a_download_goes_into_the_webuis_folder(page, monkeypatch):
    def download(name, folder, *, progress, cancel):
        progress(50, 100)
        assert not cancel.is_set()
        return [folder / f"{name}.safetensors"]

    monkeypatch.setattr(host_vae_box, "download_family", download)
    name = "sd-vae-ft-ema"
    task = Task()
    words = host_vae_box._download(page.vaes, name, task)
    assert words.startswith(f"sd-vae-ft-ema.safetensors is in {page.vaes.folder}.")
    assert task.share == 0.5
    assert page.refreshed == 1


def test_the_setting_is_shown_at_the_top_on_request(page, playground):
    assert host_vae_box.show_at_top(page.vaes) == texts.HOST_VAE_SHOWN
    assert host_vae_box.show_at_top(page.vaes) == texts.HOST_VAE_SHOWN_ALREADY

    def frozen() -> bool:
        raise TaesdError("quicksettings_list was not changed", "settings are frozen")

    vaes = HostVAEs(page.vaes.folder, page.refresh, frozen)
    line = host_vae_box._said(playground.actions(), lambda: host_vae_box.show_at_top(vaes))
    assert "settings are frozen" in line


def test_the_hosts_own_list_of_quick_settings_shows_the_new_one(page, playground):
    """It would be sent back without it when any of the host's settings is applied."""
    with gr.Blocks() as blocks:
        hosts_control = gr.Dropdown(["sd_model_checkpoint", "sd_vae"], multiselect=True)
        vaes = replace(page.vaes, quick_settings=lambda: ["a", *page.shown], hosts_control=hosts_control)
        host_vae_box.build_host_vae_box(playground.actions(), vaes)
    (press,) = [function for function, row in events(blocks) if hosts_control._id in row["outputs"]]
    line, update = press()
    assert update["value"] == ["a", "sd_vae"]
    assert texts.HOST_VAE_SHOWN in line
