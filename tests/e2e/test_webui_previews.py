"""Live previews in a real WebUI, as its page gets them."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from webui_server import HIRES, as_base64

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def is_scene(frame: Image.Image) -> bool:
    """Blue above and green below: neither mirrored nor with its colours swapped."""
    pixels = np.asarray(frame.convert("RGB"), dtype=float)
    top, bottom = pixels[: len(pixels) // 4].mean((0, 1)), pixels[-len(pixels) // 8 :].mean((0, 1))
    return top[2] > top[0] and top[2] > top[1] and bottom[1] > bottom[0] and bottom[1] > bottom[2]


def test_txt2img(webui):
    result = webui.generate(steps=16)
    # While the decoder is being loaded a page may get a rougher frame, which it scales to the same size.
    sizes = {frame.size for frame, family in zip(result.frames, result.families, strict=True) if family}
    assert sizes == {(128, 128)}
    assert set(result.families) <= {"taesd", None}
    assert is_scene(result.frames[-1])
    assert "VAE Decoder" not in result.infotext


@pytest.mark.parametrize("inpaint", [False, True], ids=["whole", "inpaint"])
def test_img2img(webui, scene, inpaint):
    request = {"denoising_strength": 0.6}
    if inpaint:
        mask = Image.new("L", scene.size, 0)
        ImageDraw.Draw(mask).rectangle((0, 0, 128, 60), fill=255)
        request = {"mask": as_base64(mask), "denoising_strength": 0.9, "inpainting_fill": 1, "inpaint_full_res": False}
    result = webui.generate("img2img", init_images=[as_base64(scene)], steps=20, **request)
    assert result.frames[-1].size == (128, 128)
    assert inpaint or is_scene(result.frames[-1])


def test_a_batch_is_a_grid(webui):
    result = webui.generate(batch_size=4)
    assert len(result.images) >= 4
    assert {frame.size for frame in result.frames} == {(256, 256)}
    tiles = np.asarray(result.frames[-1].convert("RGB")).reshape(2, 128, 2, 128, 3).transpose(0, 2, 1, 3, 4)
    assert len({tile.tobytes() for tile in tiles.reshape(4, -1)}) == 4


def test_hires_fix_shows_both_passes(webui):
    result = webui.generate(**{**HIRES, "hr_upscaler": "Latent"})
    sizes = [frame.size for frame in result.frames]
    assert sizes[0] == (128, 128)
    assert sizes[-1] == (256, 256)


def test_detail_per_generation(webui):
    result = webui.generate(steps=10, alwayson_scripts={"taesd preview": {"args": [True, "as in Settings", 4]}})
    assert 1 <= len(result.previews) <= 3
    result = webui.generate(alwayson_scripts={"taesd preview": {"args": [False]}})
    assert result.previews == []
    assert webui.generate(steps=20).previews


def test_interrupt_keeps_a_picture(webui):
    def interrupt(server, number):
        if number == 1:
            server.call("/sdapi/v1/interrupt", {})

    for fast in (False, True):
        webui.set_options(live_preview_fast_interrupt=fast)
        result = webui.generate(steps=60, at_frame=interrupt)
        assert result.error is None
        assert result.previews
        assert result.images[0].size == (128, 128)
        assert ("VAE Decoder: TAESD" in result.infotext) == fast


def test_the_budget_holds(webui):
    webui.set_options(taesd_ext_budget=3, taesd_ext_detail="Auto")
    webui.generate(width=256, height=256, steps=20)
    result = webui.generate(width=256, height=256, steps=20)
    assert result.previews
    assert webui.call("/probe/state")["share"] < 0.06
