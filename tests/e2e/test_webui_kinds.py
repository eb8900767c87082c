"""Previews of every model kind that Forge Neo loads, in its page."""

import pytest
from chromium import choose
from random_weights import save_taew2_1
from test_webui_page import wait_for_preview
from webui_page import generate_in_page, wait_for_picture, webui_window
from webui_server import OPTIONS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MADE = {
    "flux": "taef1", "qwen_image": "taew2_1", "anima": "taew2_1", "lumina2": "taef1", "z_image": "taef1",
    "flux2": "taef2", "wan": "taew2_1",
}  # fmt: skip
"""The tiny decoder of each checkpoint that the host's side makes."""

SIDE, STEPS = 128, 40

SAMPLING = {"sampling": "Euler", "scheduler": "Simple"}
"""The host's automatic schedule ends in 0 twice for most of these, and what it samples then is no number."""


@pytest.fixture(scope="module")
def neo(new_server, host_row):
    if not host_row.marks_settings:
        pytest.skip("only Forge Neo loads these")
    with new_server() as running:
        save_taew2_1(running.data / "models" / "VAE-taesd")
        running.set_options(**{**OPTIONS, "live_preview_refresh_period": 100})
        yield running


@pytest.mark.parametrize("kind", [*MADE, "taesd", "taesdxl"])
def test_a_model_is_previewed_by_its_tiny_decoder(neo, browser, tmp_path, capsys, kind):
    family = MADE.get(kind, kind)
    if kind in MADE:
        parameters = neo.make_checkpoint(kind)
    else:
        parameters = None
        neo.choose_checkpoint(kind)
    result = neo.generate(prompt="", steps=2, width=SIDE, height=SIDE, cfg_scale=1, scheduler=SAMPLING["scheduler"])
    assert result.error is None
    assert set(result.families) <= {family, None}  # None: the model is loaded with its first job
    with webui_window(browser, neo) as page:
        for name, value in SAMPLING.items():
            choose(page, f"txt2img_{name}", value)
        generate_in_page(page, steps=STEPS, side=SIDE, prompt="")
        width = wait_for_preview(page, tmp_path, f"kind-{kind}")
        wait_for_picture(page)
    state = neo.call("/probe/state")
    with capsys.disabled():
        print(f"\n{kind}: {parameters or 0:,} parameters, preview {width} px by {state['family']} ({state['detail']})")
    assert (state["family"], state["last_error"]) == (family, None)
    assert width in (SIDE, None)
