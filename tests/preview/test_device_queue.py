"""Previews beside a sampler that keeps the device's only queue full."""

from __future__ import annotations

import pytest
from fake_codec import SD1, FakeCodec, session_of
from simulated_device import DEVICE, CodecOnDevice, SimulatedDevice

from taesd_ext.preview.device_queue import shares_queue
from taesd_ext.settings import DEVICE_CPU, PreviewSettings

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")

STEP, COST = 0.5, {"full": 0.2, "1/2": 0.1, "1/4": 0.03, "1/8": 0.01}
AHEAD = 3
"""Steps that the sampler has asked for beyond the one that is shown."""


def run(machine, session, *, between=None) -> int:
    """Thirty steps, each asked for before the one before is done; gives the number of previews."""
    machine.enqueue(AHEAD * STEP)
    for step in range(1, 31):
        machine.clock.now += STEP
        machine.enqueue(STEP)
        session.step(step)
        session.poll(machine.latent(), SD1)
    return session.stats.frames


@pytest.mark.parametrize("detail", ["Auto", "1/8"])
def test_waiting_for_the_queue_is_not_cost(clock, detail):
    with SimulatedDevice(clock) as machine:
        session = session_of(CodecOnDevice(machine, COST), clock, PreviewSettings(min_time=0, detail=detail), 30)
        assert run(machine, session) >= 25
        assert session.stats.share <= 0.031
        assert session.frame.milliseconds <= 1000 * COST["full"]


def test_what_the_sampler_asks_for_during_a_decode_is_not_its_cost(clock):
    class Overtaken(CodecOnDevice):
        def decode(self, latent, *, detail="full"):
            if len(self.decoded) % 3:
                machine.enqueue(STEP)
            return super().decode(latent, detail=detail)

    with SimulatedDevice(clock) as machine:
        session = session_of(Overtaken(machine, COST), clock, PreviewSettings(min_time=0, detail="1/8"), 30)
        assert run(machine, session) >= 25


def test_a_preview_on_the_cpu_takes_the_latent_down_and_nothing_up(clock):
    with SimulatedDevice(clock) as machine:
        codec = FakeCodec(clock, COST)
        session = session_of(codec, clock, PreviewSettings(min_time=0, device=DEVICE_CPU), 30)
        assert run(machine, session) >= 25
        assert machine.uploads == 0
        assert session.stats.share <= 0.031


def test_memory_that_runs_out_is_less_detail(clock):
    with SimulatedDevice(clock, memory=1.0) as machine:
        codec = CodecOnDevice(machine, COST, {"full": 4.0, "1/2": 2.0, "1/4": 0.9})
        session = session_of(codec, clock, PreviewSettings(min_time=0, budget=0), 30)
        assert run(machine, session) == 30
        assert session.frame.detail == "1/4"


def test_which_devices_share_their_queue():
    assert shares_queue(DEVICE)
    assert not shares_queue(FakeCodec().device)
