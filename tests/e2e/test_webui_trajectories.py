"""How good previews are in the course of sampling: of what a real WebUI's samplers predict at each step."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from webui_server import OPTIONS

from taesd_ext import load_codec
from taesd_ext.commands.quality import QualityRow, latents_to_measure, preview_quality

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STAGES = ("early", "middle", "late", "finished")
RUNS = (
    ("Euler", 4, "Combined", "a bright warm photograph"),
    ("DPM++ 2M", 7, "Prompt", "a dark cold photograph"),
    ("Euler a", 7, "Combined", "a bright cold photograph"),
    ("DDIM", 4, "Prompt", "a dark warm photograph"),
)
"""Samplers, how far they follow the prompt (CFG scale), which prediction is previewed, and the prompt."""
STEPS, SIDE = 21, 256
LINEAR = "linear RGB"


def stages_of(server, sampler: str, scale: float, content: str, prompt: str) -> dict[str, list[Tensor]]:
    """Stage -> every second prediction of a generation; "finished" is what is decoded at its end."""
    folder = server.data / "trajectory"
    folder.mkdir()
    server.set_options(live_preview_content=content)
    try:
        result = server.generate(
            poll=None, width=SIDE, height=SIDE, steps=STEPS, prompt=prompt, sampler_name=sampler, cfg_scale=scale,
            seed=int(scale),
        )  # fmt: skip
        assert result.error is None
        kept = [torch.load(path) for path in sorted(folder.glob("0*.pt"))]
    finally:
        shutil.rmtree(folder)
    third = len(kept) / 3
    stages = {
        stage: kept[round(index * third) : round((index + 1) * third)][::2] for index, stage in enumerate(STAGES[:3])
    }
    return {**stages, STAGES[3]: [torch.load(server.data / "latents" / "sampled.pt")[:1].float()]}


def measured(codec, latents: list[Tensor], name: str, capsys) -> dict[str, QualityRow]:
    rows = {row.preview: row for row in preview_quality(codec, latents)}
    with capsys.disabled():
        print(f"\n{codec.family}, {name}, {len(latents)} latents", *rows.values(), sep="\n  ")
    assert len(rows) == 5
    return rows


@pytest.fixture(scope="module", params=["taesd", "taesdxl"])
def trajectories(request, server, shared):
    """The family's codec and stage -> predictions of all runs."""
    if request.param not in server.host.checkpoints:
        pytest.skip("no such checkpoint that this host takes")
    content = server.call("/sdapi/v1/options")["live_preview_content"]
    server.set_options(**OPTIONS)
    server.choose_checkpoint(request.param)
    try:
        runs = [stages_of(server, *run) for run in RUNS]
    finally:
        server.set_options(live_preview_content=content)
        server.choose_checkpoint(next(iter(server.host.checkpoints)))
    codec = load_codec(request.param, models_dir=shared / "weights")
    return codec, {stage: [latent for run in runs for latent in run[stage]] for stage in STAGES}


def test_previews_of_every_stage(trajectories, capsys):
    """Printed: the toy checkpoints' networks leave noise and glaring colours early on, as a trained one does not."""
    codec, stages = trajectories
    for stage, latents in stages.items():
        rows = measured(codec, latents, stage, capsys)
        for name in set(rows) - {LINEAR}:
            assert rows[name].psnr > rows[LINEAR].psnr, (stage, name)
            assert rows[name].ssim > rows[LINEAR].ssim, (stage, name)


@pytest.mark.skipif("TAESD_TEST_CHECKPOINTS" not in os.environ, reason="needs checkpoints of fit_photographs.py")
def test_no_stage_is_worse_than_clean_latents(trajectories, capsys):
    """Clean: what each generation ends with, and photographs where TAESD_TEST_PHOTOGRAPHS names a folder of them."""
    codec, stages = trajectories
    rows = {stage: measured(codec, latents, stage, capsys) for stage, latents in stages.items()}
    clean = [rows.pop("finished")]
    if "TAESD_TEST_PHOTOGRAPHS" in os.environ:
        photographs = latents_to_measure(codec, Path(os.environ["TAESD_TEST_PHOTOGRAPHS"]))
        clean.append(measured(codec, photographs, "photographs", capsys))
    for stage, found in rows.items():
        for name, row in found.items():
            if name != LINEAR:
                assert row.psnr > max(reference[name].psnr for reference in clean) - 1, (stage, name)
