"""A full VAE of ours for finished pictures: which one, what the parameters say, and what stays untouched."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from full_vae_files import vae_state, write_vae
from safetensors.torch import save_file

from taesd_ext import load_codec
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import embedded_names
from taesd_ext.errors import TaesdError
from taesd_ext.host import final_vae
from taesd_ext.host.accordion import pasted_final_vae, pasted_first_vae
from taesd_ext.host.infotext import IMAGE_SCALE
from taesd_ext.settings import AS_FINAL, HOSTS_VAE, TINY_VAE
from taesd_ext.ui.decoding import decode_again, decoder_names
from taesd_ext.weights.identify import checksums
from taesd_ext.weights.installed_vaes import canonical_name
from taesd_ext.weights.vae_table import VAE_BY_NAME

KEY = "Final VAE"
FIRST = "First pass VAE"


@pytest.fixture(scope="module")
def written_vaes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("VAE")
    write_vae(folder / "anime.vae.safetensors", seed=1)
    write_vae(folder / "vae-ft-mse-840000-ema-pruned.safetensors", seed=2)
    write_vae(folder / "more" / "sdxl_vae.safetensors", seed=3)
    save_file({"something": torch.zeros(2)}, folder / "no_vae.safetensors")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 64)
    return folder


@pytest.fixture
def vaes(host, written_vaes):
    return shutil.copytree(written_vaes, host.folder.parent / "VAE")


def shown(image):
    return ((image * 2 - 1 + 1) / 2).clamp(0, 1)


def test_those_that_are_there_can_be_chosen(host, extension, vaes):
    assert extension.final.vae.choices() == [
        HOSTS_VAE, TINY_VAE, "sd-vae-ft-mse", "sdxl-vae", "anime.vae", *embedded_names()
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["Full", "TAESD"])
@pytest.mark.parametrize(
    ("name", "file"),
    [("sd-vae-ft-mse", "vae-ft-mse-840000-ema-pruned"), ("anime.vae", "anime.vae")],
)  # fmt: skip
def test_the_picture_is_the_vaes_and_the_parameters_say_so(host, vaes, name, file, method):
    host.opts.sd_vae_decode_method = method
    host.opts.taesd_ext_final_vae = name
    p, images = host.generate(batch=2)
    path = vaes / f"{file}.safetensors"
    codec = load_codec(path, variant="sd15-vae")
    assert torch.equal(images, shown(torch.cat([codec.decode(one[None]) for one in p.latents[-1]])))
    assert p.extra_generation_params == {KEY: f"{file} ({checksums(path)[0][:10]})"}
    assert host.model.full_decodes == 0


def test_hires_fix_and_an_encoder_beside_it(host, vaes):
    host.opts.sd_vae_encode_method = "TAESD"
    host.opts.taesd_ext_final_vae = "anime.vae"
    p, _ = host.generate(enable_hr=True)
    assert p.extra_generation_params[KEY].startswith("anime.vae (")
    assert p.extra_generation_params["VAE Encoder"] == "TAESD"
    assert p.extra_generation_params["TAESD model"].startswith("taesd encoder ")
    assert "VAE Decoder" not in p.extra_generation_params


def test_one_generation_chooses_for_itself(host, vaes):
    for arguments in ((True, None, None, None, "anime.vae"), ({"final_vae": "anime.vae"},)):
        p, _ = host.generate(*arguments)
        assert p.extra_generation_params[KEY].startswith("anime.vae (")
    host.opts.taesd_ext_final_vae = "anime.vae"
    p, images = host.generate({"final_vae": HOSTS_VAE})
    assert p.extra_generation_params == {}
    assert images.unique().tolist() == [1.0]
    p, _ = host.generate({"final_vae": TINY_VAE})
    assert p.extra_generation_params["VAE Decoder"] == "TAESD"
    assert KEY not in p.extra_generation_params
    p, _ = host.generate(override={"taesd_ext_final_vae": HOSTS_VAE})
    assert p.extra_generation_params == {}
    assert host.opts.taesd_ext_final_vae == "anime.vae"


def test_previews_stay_taesds(host, extension, vaes):
    host.opts.taesd_ext_final_vae = "anime.vae"
    host.generate(on_step=lambda p, step: host.state.set_current_image())
    assert extension.previews.session.frame.family == "taesd"


@pytest.mark.parametrize(
    ("chosen", "model", "why"),
    [
        ("sd-vae-ft-mse", {"is_sdxl": True}, "loaded model is SDXL"),
        ("sdxl_vae", {"is_sd1": True}, "loaded model is Stable Diffusion 1 and 2"),
        ("gone", {"is_sd1": True}, "no VAE gone"),
        ("../VAE/anime.vae", {"is_sd1": True}, "no VAE"),
        ("no_vae", {"is_sd1": True}, "no VAE no_vae"),
        ("anime.vae", {"is_sd3": True, "channels": 16}, "anime.vae"),
    ],
)
def test_a_vae_of_another_model_or_none_is_an_error_or_the_hosts(host, vaes, chosen, model, why):
    host.load_model(**model)
    host.opts.taesd_ext_final_vae = chosen
    with pytest.raises(TaesdError, match=why):
        host.generate()
    host.opts.taesd_ext_decode_failure = "full VAE"
    p, images = host.generate()
    assert images.unique().tolist() == [1.0]
    assert p.extra_generation_params == {}
    assert "full VAE was used instead" in p.comments[-1]


def test_a_file_that_does_not_tell_is_taken_for_the_loaded_models(host, extension, vaes):
    host.opts.taesd_ext_final_vae = "anime.vae"
    for flags, name in (({"is_sd1": True}, "sd1"), ({"is_sdxl": True}, "sdxl")):
        host.load_model(**flags)
        host.generate()
        assert extension.final.vae.codec("anime.vae", extension.host.detection().format).format.name == name


def test_it_is_loaded_once_and_let_go(host, extension, vaes, monkeypatch):
    loads, load = [], final_vae.full_codec
    monkeypatch.setattr(final_vae, "full_codec", lambda *args: loads.append(1) or load(*args))
    host.opts.taesd_ext_final_vae = "anime.vae"
    host.generate()
    host.generate(enable_hr=True)
    assert len(loads) == 1
    assert list(extension.final.vae._kept) == ["anime.vae"]
    host.opts.taesd_ext_final_vae = HOSTS_VAE
    host.generate()
    assert not extension.final.vae._kept


@pytest.mark.parametrize("short", ["medvram", "lowvram", None])
def test_where_memory_is_short_it_waits_on_the_cpu_while_sampling(host, extension, vaes, monkeypatch, short):
    parked = []
    monkeypatch.setattr(Codec, "park", lambda codec: parked.append(codec.name))
    host.shared.cmd_opts = SimpleNamespace(**{short: True} if short else {})
    host.opts.taesd_ext_final_vae = "anime.vae"
    host.generate(steps=1)
    assert parked == ["anime.vae"] * (2 if short else 0), "when it is loaded, and at each step"


def test_a_finished_image_is_decoded_again_by_a_file_of_ones_own(host, extension, vaes):
    host.generate(steps=1)
    actions = extension.actions()
    codecs, (kept, *_) = actions.codecs, actions.kept()
    names = decoder_names(codecs, kept)
    assert {"sd-vae-ft-mse", "anime.vae"} <= set(names)
    assert "sdxl-vae" not in names
    again = decode_again(codecs, kept, "anime.vae")
    assert (again.codec.name, again.codec.source.decoder) == ("anime.vae", vaes / "anime.vae.safetensors")
    write_vae(vaes / "other_sdxl_vae.safetensors", seed=4)
    with pytest.raises(TaesdError, match="SDXL"):
        decode_again(codecs, kept, "other_sdxl_vae")


def test_a_picture_asks_for_no_list_of_files(host, extension, vaes, monkeypatch):
    host.opts.taesd_ext_final_vae = "anime.vae"
    host.generate(steps=1)
    listed = extension.final.vae.choices()
    monkeypatch.setattr(final_vae, "installed_vaes_by_name", None)
    monkeypatch.setattr(final_vae, "find_installed_vae", None)
    host.generate(steps=1)
    assert extension.final.vae.choices() == listed, "nor does a page, while no file comes or goes"
    monkeypatch.undo()
    write_vae(vaes / "more" / "new.safetensors")
    assert "new" in extension.final.vae.choices()


def test_a_changed_file_is_read_again(host, vaes):
    host.opts.taesd_ext_final_vae = "anime.vae"
    first, _ = host.generate()
    write_vae(vaes / "anime.vae.safetensors", seed=7).touch()
    second, _ = host.generate()
    assert first.extra_generation_params[KEY] != second.extra_generation_params[KEY]


def test_fast_interrupt_goes_before_it(host, vaes):
    host.opts.taesd_ext_final_vae = "anime.vae"
    host.opts.live_preview_fast_interrupt = True
    p, _ = host.generate(on_step=host.interrupt_at(1))
    assert p.extra_generation_params["VAE Decoder"] == "TAESD"
    assert KEY not in p.extra_generation_params


def test_a_rough_picture_that_an_extension_asks_for_stays_one(host, vaes):
    host.opts.taesd_ext_final_vae = "anime.vae"
    image = host.sd_samplers_common.samples_to_images_tensor(torch.zeros(1, 4, 2, 2), 2)
    assert image.shape == (1, 3, 2, 2)


def test_the_hosts_own_vae_can_still_be_asked_for(host, extension, vaes):
    host.opts.taesd_ext_final_vae = "anime.vae"
    with extension.final.hosts_vae():
        image = host.sd_samplers_common.samples_to_images_tensor(torch.zeros(1, 4, 2, 2), 0)
    assert image.unique().tolist() == [1.0]
    assert extension.final.choices.vae == "anime.vae"


def test_the_page_gets_the_choices_and_the_paste_field(host, vaes):
    with gr.Blocks():
        controls = host.script.ui(False)
    recorded = {KEY: "anime.vae (0123456789)", FIRST: "TAESD"}
    pasted = {id(control): choice(recorded) for control, choice in host.script.infotext_fields}
    assert pasted == {id(controls[4]): "anime.vae", id(controls[5]): "TAESD"}
    info = host.opts.data_labels["taesd_ext_final_vae"]
    arguments = info.component_args()
    assert "anime.vae" in arguments["choices"]
    assert set(arguments) <= {"choices", "value"}, "gradio 3 cannot update a Dropdown by others"
    assert info.component(value="gone", **arguments).allow_custom_value
    assert info.section == host.opts.data_labels["sd_vae_decode_method"].section


IMG2IMG = {"init_image": torch.rand(1, 3, 16, 16)}
HIRES = {"enable_hr": True}


@pytest.mark.parametrize(
    ("options", "chosen", "kind", "first", "final"),
    [
        ({"hires": "anime.vae"}, {}, HIRES, HOSTS_VAE, "anime.vae"),
        ({"hires": "anime.vae"}, {}, {}, None, None),
        ({"first": "anime.vae"}, {}, HIRES, "anime.vae", None),
        ({"first": "anime.vae"}, {}, {}, None, None),
        ({"first": "anime.vae"}, {"final_vae": "sdxl_vae"}, HIRES, None, "sdxl_vae"),
        ({"first": "anime.vae", "hires": "anime.vae"}, {}, HIRES, None, "anime.vae"),
        ({"img2img": "anime.vae"}, {}, IMG2IMG, None, "anime.vae"),
        ({"img2img": "anime.vae"}, {}, HIRES, None, None),
        ({}, {"final_vae": "anime.vae", "final_vae_first": TINY_VAE}, HIRES, TINY_VAE, "anime.vae"),
        ({"first": TINY_VAE}, {"final_vae_first": AS_FINAL}, HIRES, None, None),
    ],
)
def test_each_pass_may_have_its_own(host, extension, vaes, options, chosen, kind, first, final):
    if final == "sdxl_vae":
        host.load_model(is_sdxl=True)
    for name, vae in options.items():
        setattr(host.opts, f"taesd_ext_final_vae_{name}", vae)
    p, _ = host.generate(chosen, **kind)
    names = {key: canonical_name(p.extra_generation_params.get(key, "")) or None for key in (FIRST, KEY)}
    assert names == {FIRST: first, KEY: final and canonical_name(final)}
    for option in options:
        setattr(host.opts, f"taesd_ext_final_vae_{option}", AS_FINAL)
    pasted = {
        "final_vae": pasted_final_vae(p.extra_generation_params, HOSTS_VAE),
        "final_vae_first": pasted_first_vae(p.extra_generation_params, HOSTS_VAE),
    }
    again, _ = host.generate(pasted, **kind)
    assert again.extra_generation_params == p.extra_generation_params
    assert len(extension.final.vae._kept) == len({first, final} - {None, HOSTS_VAE, TINY_VAE})


@pytest.mark.parametrize("inpainted", [False, True])
def test_a_decoder_that_enlarges_does_so_but_for_inpainting(host, vaes, inpainted):
    """There the host lays what was not masked over the picture, and raises where the sizes differ."""
    state = vae_state(4)
    ends = [name for name in state if name.startswith("decoder.conv_out.")]
    save_file(state | {name: torch.cat([state[name]] * 4) for name in ends}, vaes / "twice.safetensors")
    host.opts.taesd_ext_final_vae = "twice"
    p, images = host.generate(on_step=lambda p, _: vars(p).update(overlay_images=[object()] * inpainted))
    assert images.shape[-1] == (16 if inpainted else 32)
    assert p.extra_generation_params.get(IMAGE_SCALE) == (None if inpainted else 2)


def test_what_a_slow_vae_takes_is_shown_while_it_works(host, vaes, monkeypatch):
    slow = replace(VAE_BY_NAME["sd-vae-ft-mse"], cost="17 minutes")
    monkeypatch.setitem(VAE_BY_NAME, slow.name, slow)
    shown_then, decode = [], Codec.decode
    monkeypatch.setattr(
        Codec, "decode", lambda *args, **how: shown_then.append(host.state.textinfo) or decode(*args, **how)
    )
    host.opts.taesd_ext_final_vae = slow.name
    host.generate(steps=1)
    assert "17 minutes" in shown_then[-1]
    assert host.state.textinfo is None


def test_where_a_pass_is_set_in_the_settings_pasted_parameters_name_theirs():
    assert pasted_final_vae({}, "") == HOSTS_VAE
    assert pasted_first_vae({}, "") == AS_FINAL
