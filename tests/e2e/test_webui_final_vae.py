"""A full VAE of ours for finished pictures, against the WebUI's own decode by the same file."""

import hashlib
import io

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from webui_server import HIRES, levels_apart

diffusers = pytest.importorskip("diffusers")
pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LARGEST_ERROR = 1e-3
NAME = "seeded"
NARROW = {
    "block_out_channels": (32, 32, 64, 64), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
KINDS = {"reflected": 1, "doubled": 2, "narrow": 1, "consistency-decoder": 1}
"""VAE -> how many times as long the sides of its pictures are."""
SCRIPT = "taesd preview"
PREFIX = "first_stage_model."


@pytest.fixture(scope="module")
def server(new_server, host_row, checkpoints):
    """With the checkpoint's VAE in other weights among its VAEs, from the start: Forge looks for them only then."""
    server = new_server()
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, value in load_file(checkpoints / f"{host_row.checkpoints['taesd']}.safetensors").items():
        if name.startswith(PREFIX):
            noise = torch.randn(value.shape, generator=generator)
            state[name.removeprefix(PREFIX)] = value.float() * (1 + 0.2 * noise) + 0.01 * noise
    save_file(state, vae_file(server))
    save_file(state, vae_file(server).with_stem("seeded_sdxl_vae"))
    save_file(state, vae_file(server).with_stem("reflected"), metadata={"padding_mode": "reflect"})
    doubled = {name: value.repeat_interleave(4, 0) for name, value in state.items() if "decoder.conv_out" in name}
    save_file({**state, **doubled}, vae_file(server).with_stem("doubled"))
    diffusers.AutoencoderKL(**NARROW).save_pretrained(vae_file(server).with_name("narrow"))
    consistency = diffusers.ConsistencyDecoderVAE(
        encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 64, 64)
    )
    consistency.save_pretrained(vae_file(server).with_name("consistency-decoder"))
    with server:
        server.set_options(sd_vae="Automatic")  # A1111 takes back only what was set before
        yield server


def vae_file(server):
    folder = server.data / "models" / "VAE"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{NAME}.safetensors"


def test_it_equals_the_webuis_own_decode_with_the_same_file(webui):
    webui.generate()
    base = webui.recorded("decoded")
    theirs = webui.generate(override_settings=webui.host.vae_override(vae_file(webui)))
    expected, sampled = webui.recorded("decoded"), webui.recorded("sampled")
    ours = webui.generate(override_settings={"taesd_ext_final_vae": NAME})
    assert torch.equal(webui.recorded("sampled"), sampled)
    error = float((webui.recorded("decoded") - expected).abs().max())
    print(f"largest difference {error:.2g} of 1; another VAE differs by {float((base - expected).abs().max()):.2g}")
    assert error <= LARGEST_ERROR
    assert float((base - expected).abs().max()) > 20 * LARGEST_ERROR
    assert levels_apart(ours.images[0], theirs.images[0]) <= 1
    sha256 = hashlib.sha256(vae_file(webui).read_bytes()).hexdigest()
    assert f"Final VAE: {NAME} ({sha256[:10]})" in ours.infotext
    assert "VAE Decoder" not in ours.infotext
    assert "Final VAE" not in theirs.infotext
    assert set(ours.families) <= {"taesd"}
    assert webui.call("/sdapi/v1/options")["sd_vae"] == "Automatic"


def test_one_generation_and_hires_fix(webui):
    result = webui.generate(**HIRES, alwayson_scripts={SCRIPT: {"args": [{"final_vae": NAME}]}})
    assert result.images[0].size == (256, 256)
    assert f"Final VAE: {NAME} (" in result.infotext
    assert "Final VAE" not in webui.generate().infotext


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_vae(webui, name):
    scale = KINDS[name]
    result = webui.generate(override_settings={"taesd_ext_final_vae": name}, save_images=True)
    assert result.error is None
    assert [image.size for image in result.images] == [(128 * scale, 128 * scale)]
    assert f"Final VAE: {name} (" in result.infotext
    saved = max((webui.data / "outputs").rglob("*.png"), key=lambda path: path.stat().st_mtime)
    with Image.open(saved) as picture:
        assert picture.size == result.images[0].size
        assert f"Final VAE: {name} (" in picture.info["parameters"]
    job = webui.call("/taesd/v1/timeline")[0]["id"]
    again = webui.fetch(f"/taesd/v1/timeline/{job}/moments/0/picture?decoder={name}")
    assert levels_apart(Image.open(io.BytesIO(again)), result.images[0]) <= 1


@pytest.mark.parametrize("option", ["first", "hires"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_vae_in_a_pass(webui, name, option):
    scale = KINDS[name] if option == "hires" else 1
    result = webui.generate(**HIRES, override_settings={f"taesd_ext_final_vae_{option}": name})
    assert result.error is None
    assert result.images[0].size == (256 * scale, 256 * scale)
    assert f"{'First pass' if option == 'first' else 'Final'} VAE: {name}" in result.infotext


def test_pasted_parameters_bring_it_back(webui):
    if not webui.host.reads_infotext:
        pytest.skip("this host's API fails on an infotext, whatever it holds")
    webui.set_options(taesd_ext_final_vae=NAME)
    made = webui.generate()
    picture = webui.recorded("decoded")
    webui.set_options(taesd_ext_final_vae="the WebUI's")
    again = webui.generate(infotext=made.infotexts[0], alwayson_scripts={SCRIPT: {"args": []}})
    assert f"Final VAE: {NAME} (" in again.infotext
    assert torch.equal(webui.recorded("decoded"), picture)


def test_the_vae_of_another_model_is_refused_or_left_to_the_webui(webui):
    webui.set_options(taesd_ext_final_vae="seeded_sdxl_vae")
    assert "the loaded model is Stable Diffusion 1 and 2" in str(webui.generate().error)
    webui.set_options(taesd_ext_decode_failure="full VAE")
    result = webui.generate()
    assert result.error is None
    assert "Final VAE" not in result.infotext
