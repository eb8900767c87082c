"""A user's own decoder gets its reduced details while a real WebUI has nothing to do; no generation waits for it."""

import os
import statistics
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from webui_server import OPTIONS, WebUIServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUNDS = int(os.environ.get("TAESD_IDLE_ROUNDS", "1"))
"""Generations in the middle of learning, each beside one without it; five tell the figures."""
AT_WORK = 1.0
"""Seconds of processor time within so many seconds that a WebUI without a job does not spend."""
PATIENCE = 420


def cpu_seconds(server: WebUIServer) -> float:
    """Processor time of the WebUI so far, all threads together."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_learning(server: WebUIServer, heads: Path) -> None:
    """Until the idle WebUI computes, or has written what it learnt."""
    deadline = time.monotonic() + PATIENCE
    while not list(heads.glob("*.safetensors")):
        before = cpu_seconds(server)
        time.sleep(2)
        if cpu_seconds(server) - before > AT_WORK:
            return
        assert time.monotonic() < deadline, f"no learning began: {server.output()[-2000:]}"


def seconds_of_a_generation(server: WebUIServer) -> float:
    begun = time.monotonic()
    server.generate(steps=8, width=384, height=384, poll=None)
    return time.monotonic() - begun


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor times as Linux tells them")
def test_own_weights_are_learnt_when_idle_and_a_job_comes_first(new_server, shared, tmp_path, monkeypatch, capsys):
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
        assert server.generate(steps=4).previews
        alone, disturbed = [], []
        for _ in range(ROUNDS):
            alone.append(seconds_of_a_generation(server))
            wait_for_learning(server, heads)
            assert not list(heads.glob("*.safetensors")), "learnt before the first generation could come in between"
            disturbed.append(seconds_of_a_generation(server))
        begun, deadline = cpu_seconds(server), time.monotonic() + PATIENCE
        while not list(heads.glob("*.safetensors")):
            assert time.monotonic() < deadline, server.output()[-2000:]
            time.sleep(1)
        spent = cpu_seconds(server) - begun
        assert "cannot be learnt" not in server.output()
    ratio = statistics.median(b / a for a, b in zip(alone, disturbed, strict=True))
    with capsys.disabled():
        print(f"\nlearnt in {spent:.0f} CPU s; a generation beside it takes {ratio:.3f} times as long as without")
