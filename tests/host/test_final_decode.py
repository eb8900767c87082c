"""Finished pictures and latents, and what the generation parameters say of them."""

import re

import pytest
import torch

from taesd_ext import load_codec
from taesd_ext.codec.codec import Codec
from taesd_ext.errors import TaesdError
from taesd_ext.host import infotext

MODEL = "TAESD model"
PICTURE = torch.rand(1, 3, 16, 16)


def as_host_shows(image):
    """The host's arithmetic around a decoder's [0,1] picture."""
    return ((image * 2 - 1 + 1) / 2).clamp(0, 1)


@pytest.mark.parametrize(("flags", "family"), [({"is_sd1": True}, "taesd"), ({"is_sdxl": True}, "taesdxl"),
                                               ({"is_sd3": True, "channels": 16}, "taesd3")])  # fmt: skip
def test_the_final_decode_is_the_codecs_bit_for_bit(host, flags, family):
    host.load_model(**flags)
    host.opts.sd_vae_decode_method = "TAESD"
    p, images = host.generate(batch=2)
    codec = load_codec(family, models_dir=host.folder)
    expected = torch.cat([codec.decode(one[None]) for one in p.latents[-1]])
    assert torch.equal(images, as_host_shows(expected))
    assert p.extra_generation_params["VAE Decoder"] == "TAESD"
    assert p.extra_generation_params[MODEL].startswith(f"{family} decoder ")
    assert host.model.full_decodes == 0


def test_the_encode_is_the_codecs_bit_for_bit(host):
    host.opts.sd_vae_encode_method = "TAESD"
    picture = torch.rand(1, 3, 16, 24)
    p, _ = host.generate(init_image=picture)
    assert torch.equal(p.latents[0], load_codec("taesd", models_dir=host.folder).encode(picture))
    assert p.extra_generation_params == {
        "VAE Encoder": "TAESD",
        MODEL: p.extra_generation_params[MODEL],
    }
    assert p.extra_generation_params[MODEL].startswith("taesd encoder ")
    assert host.model.full_encodes == 0


def test_hires_fix_is_recorded_where_the_host_forgets_it(host):
    host.opts.sd_vae_decode_method = host.opts.sd_vae_encode_method = "TAESD"
    p, _ = host.generate(enable_hr=True)
    assert p.extra_generation_params["VAE Decoder"] == p.extra_generation_params["VAE Encoder"] == "TAESD"
    assert re.fullmatch(r"taesd decoder \w{8} \+ taesd encoder \w{8}", p.extra_generation_params[MODEL])
    assert host.model.full_decodes == host.model.full_encodes == 0


@pytest.mark.parametrize(
    ("options", "recorded", "shade"),
    [
        ({}, {}, 1.0),
        ({"taesd_ext_family": "built-in TAESD", "sd_vae_decode_method": "TAESD"}, {"VAE Decoder": "TAESD"}, 0.625),
    ],
    ids=["full", "built-in"],
)
def test_what_the_host_makes_stays_the_hosts(host, options, recorded, shade):
    host.opts.data.update(options)
    p, images = host.generate(enable_hr=True, init_image=PICTURE)
    assert images.unique().tolist() == [shade]
    assert p.extra_generation_params == recorded


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_a_final_failure_is_an_error_until_the_file_is_put_in_place(host, part):
    file = host.folder / f"taesd_{part}.safetensors"
    data = file.read_bytes()
    host.remove_weights(f"*{part}*")
    host.opts.sd_vae_decode_method = host.opts.sd_vae_encode_method = "TAESD"
    with pytest.raises(TaesdError, match=f"taesd has no {part}"):
        host.generate(init_image=PICTURE)
    file.write_bytes(data)
    p, _ = host.generate(init_image=PICTURE)
    assert p.extra_generation_params["VAE Encoder"] == p.extra_generation_params["VAE Decoder"] == "TAESD"


def test_a_final_failure_is_left_to_the_full_vae_where_the_user_wants_it(host):
    host.remove_weights()
    host.opts.taesd_ext_decode_failure = "full VAE"
    host.opts.sd_vae_decode_method = host.opts.sd_vae_encode_method = "TAESD"
    p, images = host.generate(init_image=PICTURE)
    assert images.unique().tolist() == [1.0]
    assert p.extra_generation_params == {}
    assert len(p.comments) == 2
    assert "No weights for taesd" in p.comments[0]
    assert "full VAE was used instead" in p.comments[0]


@pytest.mark.parametrize("channels", [3, 16, 20, 48])
def test_a_model_that_we_do_not_know_is_left_to_the_host(host, channels):
    """Neo shows a pixel-space model's picture as it is; whatever a host does is no worse than without us."""
    host.load_model(channels=channels)
    host.opts.sd_vae_decode_method = host.opts.sd_vae_encode_method = "TAESD"
    p, images = host.generate(init_image=PICTURE)
    assert images.unique().tolist() == [(host.sd_samplers_common.BUILT_IN + 1) / 2]
    assert p.latents[0].unique().tolist() == [host.sd_samplers_common.BUILT_IN]
    assert MODEL not in p.extra_generation_params


@pytest.mark.parametrize("says_its_channels", [True, False])
def test_a_family_that_does_not_fit_the_model_is_an_error_both_ways(host, says_its_channels):
    host.opts.taesd_ext_family = "taesd3"
    to_images = host.sd_samplers_common.samples_to_images_tensor
    to_samples = host.sd_samplers_common.images_tensor_to_samples
    if not says_its_channels:
        del host.model.latent_channels
    with pytest.raises(TaesdError, match="channels"):
        to_images(torch.zeros(1, 4, 2, 2), 3)
    with pytest.raises(TaesdError, match="taesd3 cannot read this picture"):
        to_samples(PICTURE, 3)
    host.model.latent_channels = 4
    host.opts.taesd_ext_decode_failure = "full VAE"
    assert to_samples(PICTURE, 3).shape == (1, 4, 2, 2)
    assert host.model.full_encodes == 1


def test_autocast_does_not_change_a_bit(host):
    """A1111 decodes within its autocast in hires fix."""
    host.opts.sd_vae_decode_method = host.opts.sd_vae_encode_method = "TAESD"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p, images = host.generate(init_image=PICTURE)
    codec = load_codec("taesd", models_dir=host.folder)
    assert torch.equal(p.latents[0], codec.encode(PICTURE))
    assert torch.equal(images, as_host_shows(codec.decode(p.latents[-1])))


def test_a_picture_made_in_tiles_says_so(host, monkeypatch):
    decode = Codec.decode

    def in_tiles(self, latent, *, on_tiled=None, **kwargs):
        on_tiled(512)
        return decode(self, latent, **kwargs)

    host.opts.sd_vae_decode_method = "TAESD"
    whole, _ = host.generate()
    monkeypatch.setattr(Codec, "decode", in_tiles)
    tiled, _ = host.generate()
    assert infotext.TILES not in whole.extra_generation_params
    assert tiled.extra_generation_params == {**whole.extra_generation_params, infotext.TILES: 512}


@pytest.mark.parametrize("tiling", [True, False])
def test_pictures_that_tile_have_no_edge(host, tiling):
    """Where opposite edges meet, it makes no difference where a picture begins."""
    latent, picture = torch.randn(1, 4, 2, 4), torch.rand(1, 3, 16, 32)
    common = host.sd_samplers_common
    differences = []

    def differ(work, given, by, back):
        moved = work(given.roll(by, (-2, -1)), 3).roll([-side for side in back], (-2, -1))
        differences.append((work(given, 3) - moved).abs().max().item())

    def on_step(p, step):
        differ(common.samples_to_images_tensor, latent, (1, 2), (8, 16))
        differ(common.images_tensor_to_samples, picture, (8, 16), (1, 2))

    host.generate(steps=1, tiling=tiling, on_step=on_step)
    assert [difference < 1e-4 for difference in differences] == [tiling, tiling]


@pytest.mark.parametrize("sampling", ["img2img", "hires fix"])
def test_what_scripts_decode_and_encode_on_finished_pictures_is_not_the_pictures(host, sampling):
    """ADetailer's img2img runs without our script."""
    host.opts.sd_vae_encode_method = "TAESD"

    def inner(p):
        host.processing.encode(host.processing.Processing(), PICTURE)
        host.processing.decode(torch.zeros(1, 4, 2, 2))
        seen.append(dict(p.extra_generation_params))

    seen = []
    mine = {"enable_hr": True} if sampling == "hires fix" else {"init_image": PICTURE}
    for kwargs in ({}, mine):
        p, _ = host.generate(on_pictures=inner, **kwargs)
        assert p.extra_generation_params == seen[-1]
        assert ("VAE Encoder" in seen[-1]) is bool(kwargs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_pictures_are_made_in_the_dtype_of_the_hosts_vae(host, extension, monkeypatch, dtype):
    used = []
    monkeypatch.setattr(extension.registry, "get", lambda family, **how: used.append(how["dtype"]) or load_codec(
        family, models_dir=host.folder))  # fmt: skip
    monkeypatch.setattr(host.devices, "dtype_vae", dtype, raising=False)
    monkeypatch.setattr(type(extension.host), "device", lambda _host: torch.device("meta"))
    extension.final.decode(torch.zeros(1, 4, 2, 2))
    monkeypatch.setattr(type(extension.host), "device", lambda _host: torch.device("cpu"))
    extension.final.decode(torch.zeros(1, 4, 2, 2))
    assert used == [dtype, None]


def test_nan_never_reaches_the_host(host, monkeypatch):
    """A1111 would switch its own VAE to another precision for good."""
    host.opts.sd_vae_decode_method = "TAESD"
    monkeypatch.setattr(
        "taesd_ext.codec.codec.Codec.decode", lambda self, latent, **k: torch.full((1, 3, 16, 16), float("nan"))
    )
    with pytest.raises(TaesdError, match="NaN"):
        host.generate()


def test_fast_interrupt_uses_the_previews_decoder(host):
    host.opts.live_preview_fast_interrupt = True
    p, images = host.generate(on_step=host.interrupt_at(1))
    assert torch.equal(images, as_host_shows(load_codec("taesd", models_dir=host.folder).decode(p.latents[-1])))
    assert p.extra_generation_params["VAE Decoder"] == "TAESD"


def test_fast_interrupt_never_loses_the_picture(host):
    host.opts.live_preview_fast_interrupt = True
    host.remove_weights()
    p, images = host.generate(on_step=host.interrupt_at(1))
    assert images.unique().tolist() == [1.0]
    assert host.state.interrupted
    assert "VAE Decoder" not in p.extra_generation_params


@pytest.mark.parametrize("pressed", ["before", "meanwhile", "never"])
def test_an_interrupt_while_the_full_vae_stands_in_is_heard(host, pressed):
    """Neither lost nor, where there was one, forgotten."""
    host.remove_weights()
    host.opts.taesd_ext_decode_failure = "full VAE"
    host.opts.sd_vae_decode_method = "TAESD"
    full = host.model.decode_first_stage

    def decode(sample):
        host.state.interrupted = host.state.interrupted or pressed == "meanwhile"
        return full(sample)

    host.model.decode_first_stage = decode
    host.generate(on_step=lambda p, step: setattr(host.state, "interrupted", pressed == "before"))
    assert host.model.full_decodes == 1
    assert host.state.interrupted is (pressed != "never")


def test_a_picture_asked_for_in_full_is_full(host):
    """As the host does for the save before hires fix."""
    host.opts.sd_vae_decode_method = "TAESD"
    image = host.sd_samplers_common.sample_to_image(torch.zeros(1, 4, 2, 2), approximation=0)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_no_preview_is_decoded_while_a_picture_is_finished(host, extension, monkeypatch):
    host.opts.sd_vae_decode_method = "Full"

    def full(sample):
        frames = extension.previews.session.stats.frames
        extension.previews.session.step(9)
        host.state.set_current_image()
        assert extension.previews.session.stats.frames == frames
        return sample.new_ones(1, 3, 16, 16)

    host.model.decode_first_stage = full
    host.generate(on_step=lambda p, step: host.state.set_current_image())
    assert extension.previews.session.stats.frames == 4


def test_packed_latents_for_hosts_that_pack_them(host, extension, monkeypatch):
    from taesd_ext.latent_formats import native_format, pack
    from taesd_ext.models.tiny import Encoder

    codec = Codec("taef2", native_format("taef2"), encoder=Encoder(32, midblock_norm=True))
    monkeypatch.setattr(extension.registry, "get", lambda family, **k: codec)
    host.opts.taesd_ext_family = "taef2"
    picture = torch.rand(1, 3, 32, 32)
    host.load_model(channels=128)
    assert torch.equal(extension.final.encode(picture), pack(codec.encode(picture)))
    host.load_model(channels=32)
    assert torch.equal(extension.final.encode(picture), codec.encode(picture))
