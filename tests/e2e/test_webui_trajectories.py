"""How good previews are in the course of sampling: of what a real WebUI's samplers predict at each step."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor
from webui_server import OPTIONS

from taesd_ext import load_codec
from taesd_ext.commands.quality import preview_quality

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STAGES = ("early", "middle", "late", "finished")
RUNS = (("Euler", 4), ("DPM++ 2M", 7), ("Euler a", 7), ("DDIM", 4))
"""Samplers and how far they follow the prompt (CFG scale)."""
STEPS, SIDE = 21, 256
LINEAR = "linear RGB"


def stages_of(server, sampler: str, scale: float) -> dict[str, list[Tensor]]:
    """Stage -> every second prediction of a generation; "finished" is what is decoded at its end."""
    folder = server.data / "trajectory"
    folder.mkdir()
    try:
        result = server.generate(
            poll=None, width=SIDE, height=SIDE, steps=STEPS, sampler_name=sampler, cfg_scale=scale, seed=int(scale)
        )
        assert result.error is None
        kept = [torch.load(path) for path in sorted(folder.glob("*.pt"))]
    finally:
        shutil.rmtree(folder)
    third = len(kept) / 3
    stages = {
        stage: kept[round(index * third) : round((index + 1) * third)][::2] for index, stage in enumerate(STAGES[:3])
    }
    return {**stages, STAGES[3]: [torch.load(server.data / "latents" / "sampled.pt")[:1].float()]}


@pytest.mark.parametrize("family", ["taesd", "taesdxl"])
def test_previews_of_every_stage(server, shared, capsys, family):
    """Printed: these checkpoints' small U-Nets leave noise and glaring colours early on, as a trained one would not."""
    if family not in server.host.checkpoints:
        pytest.skip("no such checkpoint that this host takes")
    server.set_options(**OPTIONS)
    server.choose_checkpoint(family)
    try:
        runs = [stages_of(server, *run) for run in RUNS]
    finally:
        server.choose_checkpoint(next(iter(server.host.checkpoints)))
    codec = load_codec(family, models_dir=shared / "weights")
    for stage in STAGES:
        latents = [latent for run in runs for latent in run[stage]]
        rows = {row.preview: row for row in preview_quality(codec, latents)}
        with capsys.disabled():
            print(f"\n{family}, {stage}, {len(latents)} latents", *rows.values(), sep="\n  ")
        assert len(rows) == 5
        for name in set(rows) - {LINEAR}:
            assert rows[name].psnr > rows[LINEAR].psnr, (stage, name)
            assert rows[name].ssim > rows[LINEAR].ssim, (stage, name)
