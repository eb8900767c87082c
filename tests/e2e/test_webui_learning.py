"""What a real WebUI learns: an unknown model's previews from finished pictures, a user's own decoder when idle."""

import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from chromium import SHOTS
from PIL import Image
from safetensors.torch import load_file, save_file
from webui_server import OPTIONS, WebUIServer, as_base64

from taesd_ext.learning.synthetic_pictures import picture

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

JOBS = 9
SIDE = 256
PATIENCE = 420
"""Seconds."""


def scene(seed: int) -> str:
    image = picture(SIDE, torch.Generator().manual_seed(seed)).mul(255).byte().permute(1, 2, 0).numpy()
    return as_base64(Image.fromarray(image))


def psnr(preview: Image.Image, finished: Image.Image) -> float:
    """dB, at the preview's size."""
    wanted = np.asarray(finished.convert("RGB").resize(preview.size, Image.Resampling.BOX), dtype=float)
    return float(-10 * np.log10(np.square((np.asarray(preview.convert("RGB")) - wanted) / 255).mean()))


def wait_until_learnt(server: WebUIServer) -> None:
    deadline = time.monotonic() + 60
    while "taesd-ext-learning-pictures" in server.call("/faults/state")["threads"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_invented_model_is_shown_from_its_second_picture_on(new_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shots = Path(os.environ.get(SHOTS, tmp_path))
    found: list[tuple[int, str | None, float | None]] = []
    with new_server() as server:
        server.set_options(**OPTIONS)
        server.choose_checkpoint(next(iter(server.host.checkpoints)))
        server.call("/invented/set", {"name": "Invented"})
        for job in range(JOBS):
            result = server.generate(
                "img2img", init_images=[scene(job)], denoising_strength=0.5, steps=12, width=SIDE, height=SIDE
            )
            assert result.error is None
            wait_until_learnt(server)
            detail = server.call("/probe/state")["detail"] if result.previews else None
            last = result.frames[-1] if result.previews else None
            found.append((len(result.previews), detail, last and psnr(last, result.images[0])))
            result.images[0].save(shots / f"learning-{job + 1}-finished.png")
            if last:
                last.convert("RGB").resize((SIDE, SIDE)).save(shots / f"learning-{job + 1}-preview.png")
    with capsys.disabled():
        for job, (frames, detail, quality) in enumerate(found, 1):
            shown = f"{frames} previews ({detail}), the last {quality:.1f} dB" if frames else "no preview"
            print(f"\njob {job}: {shown}", end="")
        print()
    assert found[0][1] != "learnt"
    assert {detail for _, detail, _ in found[1:]} == {"learnt"}
    assert found[1][2] > 15
    qualities = [quality for _, _, quality in found[1:]]
    assert statistics.mean(qualities[JOBS // 2 :]) > statistics.mean(qualities[: JOBS // 2])
    assert list((tmp_path / "cache" / "taesd_ext" / "previewers").glob("*.safetensors"))
    pictures = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".png", ".jpg", ".webp", ".pt")]
    assert not pictures, "finished pictures are never written"


def test_own_weights_are_learnt_when_idle_and_a_job_comes_in_between(new_server, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    heads = tmp_path / "cache" / "taesd_ext" / "heads"
    server = new_server(data=tmp_path / "data")
    own = tmp_path / "data" / "models" / "VAE-taesd" / "taesd_decoder.safetensors"
    own.unlink()
    generator = torch.Generator().manual_seed(0)
    weights = load_file(shared / "weights" / own.name)
    # Far enough from the official decoder that its shipped heads do not serve.
    save_file({k: v.float() * (1 + 0.1 * torch.randn(v.shape, generator=generator)) for k, v in weights.items()}, own)
    with server:
        server.set_options(**OPTIONS)
        server.choose_checkpoint("taesd")
        for _ in range(2):
            assert server.generate(steps=20).previews
            assert "taesd-ext-learning" in server.call("/faults/state")["threads"]
            assert not list(heads.glob("*.safetensors"))
            time.sleep(10)  # it has begun
        deadline = time.monotonic() + PATIENCE
        while not list(heads.glob("*.safetensors")):
            assert time.monotonic() < deadline, server.output()[-2000:]
            time.sleep(1)
        assert "cannot be learnt" not in server.output()
