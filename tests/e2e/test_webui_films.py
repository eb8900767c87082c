"""Previews of a video, and of Wan's stills, in a real Forge Neo."""

import os
import statistics
import time
from pathlib import Path

import pytest
import torch
from chromium import SHOTS
from random_weights import save_taew2_1
from safetensors.torch import load_file
from webui_server import OPTIONS, WebUIServer, link_weights

from taesd_ext.settings import BUILT_IN

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FRAMES, LATENT_FRAMES = 33, 9
WITHOUT, OURS, NEOS, ROUGH = "no previews", "ours", "Neo's own", "ours, without a file"
ROUNDS = 1


@pytest.fixture(scope="module")
def neo(host_row, hf_home, shared, tmp_path_factory):
    if not host_row.marks_settings:
        pytest.skip("only Forge Neo samples Wan")
    data, checkpoints = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("checkpoints")
    link_weights(shared, data)
    with WebUIServer(data, checkpoints, hf_home) as running:
        running.make_checkpoint("wan")
        running.set_options(**OPTIONS)
        yield running


def job(server: WebUIServer, frames: int, way: str):
    """The result, its seconds, and what the previews took of them."""
    server.set_options(
        live_previews_enable=way != WITHOUT,
        taesd_ext_family=BUILT_IN if way == NEOS else "Auto",
        taesd_ext_budget=3,
        taesd_ext_detail="Auto",
    )
    began = time.monotonic()
    result = server.generate(prompt="", batch_size=frames, width=128, height=128, steps=24, cfg_scale=1)
    assert result.error is None
    return result, time.monotonic() - began, server.call("/probe/state")["share"]


def test_a_video_moves_while_it_is_made(neo, tmp_path, capsys):
    folder = neo.data / "models" / "VAE-taesd"
    shots = Path(os.environ.get(SHOTS, tmp_path))
    rough, _, _ = job(neo, FRAMES, ROUGH)
    assert {getattr(frame, "n_frames", 1) for frame in rough.frames} == {LATENT_FRAMES}
    (shots / "film-linear.webp").write_bytes(rough.previews[-1])

    save_taew2_1(folder)
    torch.save(load_file(folder / "taew2_1.safetensors"), folder / "taew2_1.pth")  # Neo reads no other kind
    neo.call("/sdapi/v1/refresh-vae", {})
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for way in (WITHOUT, OURS, NEOS):
            result, seconds, share = job(neo, FRAMES, way)
            sizes = [len(data) for data in result.previews]
            found.setdefault(way, []).append((seconds, share or 0.0))
            with capsys.disabled():
                shown = f"{len(sizes)} previews, {statistics.mean(sizes):,.0f} bytes" if sizes else "none"
                moving = sorted({getattr(frame, "n_frames", 1) for frame in result.frames})
                print(f"\n{way}: {seconds:.1f} s, {shown}, frames {moving}, our share {share:.3f}", end="")
            if way == OURS:
                assert {frame.format for frame in result.frames} == {"WEBP"}
                assert result.frames
                assert all(frame.n_frames >= LATENT_FRAMES for frame in result.frames)
                assert set(result.families) <= {"taew2_1", None}
                (shots / "film-ours.webp").write_bytes(result.previews[-1])
            elif way == NEOS and result.previews:
                (shots / "film-neo.gif").write_bytes(result.previews[-1])


def test_a_still_of_the_same_model_is_drawn(neo):
    result, _, _ = job(neo, 1, OURS)
    assert result.previews
    assert not any(getattr(frame, "is_animated", False) for frame in result.frames)
