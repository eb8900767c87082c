"""Full VAEs for the WebUI's own SD VAE setting."""

import gradio as gr
import pytest
from diffusers_vaes import reference
from events import events, finished, pressed
from full_vae_files import write_vae
from safetensors.torch import load_file, save_file

from taesd_ext.errors import TaesdError
from taesd_ext.ui import downloads
from taesd_ext.ui.actions import HostVAEs
from taesd_ext.ui.host_vae_box import ADDED, ADDED_BEFORE, build_host_vae_box
from taesd_ext.ui.playground import Playground


class Box:
    """The controls, and what the WebUI did."""

    def __init__(self, folder, actions) -> None:
        self.folder, self.refreshed, self.shown = folder, [], []
        with gr.Blocks() as self.page:
            hosts_control = gr.Dropdown(["sd_model_checkpoint", "sd_vae"], multiselect=True)
            vaes = HostVAEs(
                folder, lambda: self.refreshed.append(1), self.add, lambda: ["a", *self.shown], hosts_control
            )
            build_host_vae_box(actions, vaes)
        (self.take,) = [function for function, _ in events(self.page) if getattr(function, "__name__", "") == "take"]

    def add(self) -> bool:
        if len(self.shown) == 2:
            raise TaesdError("quicksettings_list was not changed", "settings are frozen")
        self.shown.append("sd_vae")
        return len(self.shown) == 1


@pytest.fixture
def box(tmp_path, no_weights):
    return Box(tmp_path / "VAE", Playground(no_weights).actions())


def test_a_full_vae_is_copied_and_the_list_is_made_anew(box, tmp_path):
    dropped = write_vae(tmp_path / "my; vae.safetensors")
    assert "taesd-ext-good" in box.take(str(dropped))
    assert load_file(box.folder / "my_ vae.safetensors").keys() == load_file(dropped).keys()
    assert "already" in box.take(str(dropped))
    assert len(box.refreshed) == 1


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("tiny", "no full-size VAE"),
        ("diffusers", "original layout only"),
        ({"prefix": "first_stage_model."}, "original layout only"),
        ({"parts": ("decoder",)}, "lacks the encoder"),
    ],
)
def test_what_the_webui_cannot_load_is_refused(box, tmp_path, random_weights, how, why):
    dropped = tmp_path / "a.safetensors"
    if how == "tiny":
        dropped = random_weights / "taesd_decoder.safetensors"
    elif how == "diffusers":
        save_file(reference("sd15-vae", block_out_channels=(32,) * 4, norm_num_groups=32).state_dict(), dropped)
    else:
        write_vae(dropped, **how)
    assert why in box.take(str(dropped))
    assert not box.folder.exists()
    assert not box.refreshed


def test_a_download_goes_into_the_webuis_folder(box, monkeypatch):
    monkeypatch.setattr(downloads, "download_family", lambda name, folder, _transfer: [folder / f"{name}.safetensors"])
    get = pressed(box.page, "taesd_host_vae_get").__self__
    (said,) = finished(get, get.start("sd-vae-ft-ema")[1])
    assert "sd-vae-ft-ema.safetensors" in said
    assert str(box.folder) in said
    assert len(box.refreshed) == 1


def test_the_setting_is_shown_at_the_top_and_in_the_hosts_own_list(box):
    """Which would send it back without the new one when any of the host's settings is applied."""
    for said, shown in ((ADDED, 1), (ADDED_BEFORE, 2), ("settings are frozen", 2)):
        line, update = pressed(box.page, "taesd_host_vae_quick")().values()
        assert said in line
        assert update["value"] == ["a", *["sd_vae"] * shown]
