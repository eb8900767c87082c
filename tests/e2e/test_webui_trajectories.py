"""How good previews are in the course of sampling: of what a real WebUI's samplers predict at each step."""

import os

import pytest

from taesd_ext import load_codec
from taesd_ext.commands.quality import preview_quality

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STAGES = ("early", "middle", "late")
RUNS = (
    ("Euler", 4, "Combined", "a bright warm photograph"),
    ("DPM++ 2M", 7, "Prompt", "a dark cold photograph"),
    ("Euler a", 7, "Combined", "a bright cold photograph"),
    ("DDIM", 4, "Prompt", "a dark warm photograph"),
)
"""Samplers, how far they follow the prompt (CFG scale), which prediction is previewed, and the prompt."""
LINEAR = "linear RGB"


@pytest.mark.parametrize("family", ["taesd", "taesdxl"])
def test_previews_of_every_stage(webui, shared, capsys, family):
    """Better than linear RGB; with checkpoints of fit_photographs.py, which predict as trained ones do, also no worse
    than of the finished latents. Figures are printed.
    """
    if family not in webui.host.checkpoints:
        pytest.skip("no such checkpoint that this host takes")
    content = webui.call("/sdapi/v1/options")["live_preview_content"]
    webui.choose_checkpoint(family)
    latents = {stage: [] for stage in (*STAGES, "finished")}
    for sampler, scale, shown, prompt in RUNS:
        webui.set_options(live_preview_content=shown)
        result = webui.generate(
            poll=None, width=256, height=256, steps=21, prompt=prompt, sampler_name=sampler, cfg_scale=scale
        )
        assert result.error is None
        predictions = webui.predictions()[::2]
        for place, predicted in enumerate(predictions):
            latents[STAGES[3 * place // len(predictions)]].append(predicted[:1].float())
        latents["finished"].append(webui.recorded("sampled")[:1].float())
    webui.set_options(live_preview_content=content)
    codec = load_codec(family, models_dir=shared / "weights")
    quality = {stage: {row.preview: row for row in preview_quality(codec, own)} for stage, own in latents.items()}
    for stage, rows in quality.items():
        with capsys.disabled():
            print(f"\n{family}, {stage}, {len(latents[stage])} latents", *rows.values(), sep="\n  ")
        for name in rows.keys() - {LINEAR}:
            assert rows[name].psnr > rows[LINEAR].psnr, (stage, name)
            assert rows[name].ssim > rows[LINEAR].ssim, (stage, name)
            if "TAESD_TEST_CHECKPOINTS" in os.environ:
                assert rows[name].psnr > quality["finished"][name].psnr - 1, (stage, name)
