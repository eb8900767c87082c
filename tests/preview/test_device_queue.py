"""Previews beside a sampler that keeps the device's only queue full."""

import pytest
from fake_codec import SD1, FakeCodec, session_of, settings
from simulated_device import DEVICE, CodecOnDevice, SimulatedDevice

from taesd_ext.preview.device_queue import shares_queue
from taesd_ext.settings import DEVICE_CPU

pytestmark = pytest.mark.usefixtures("no_embedded_previewer")

STEP, COST = 0.5, {"full": 0.2, "1/2": 0.1, "1/4": 0.03, "1/8": 0.01}
AHEAD = 3
"""Steps that the sampler has asked for beyond the one that is shown."""


class Overtaken(CodecOnDevice):
    """The sampler asks for more during most decodes."""

    def decode(self, latent, *, detail="full"):
        if len(self.decoded) % 3:
            self.machine.enqueue(STEP)
        return super().decode(latent, detail=detail)


def run(machine, codec, **chosen):
    """Thirty steps, each asked for before the one before is done."""
    session = session_of(codec, machine.clock, settings(**chosen), 30)
    machine.enqueue(AHEAD * STEP)
    for step in range(1, 31):
        machine.clock.now += STEP
        machine.enqueue(STEP)
        session.step(step)
        session.poll(machine.latent(), SD1)
    return session


@pytest.mark.parametrize(("codec", "detail"), [(CodecOnDevice, "Auto"), (CodecOnDevice, "1/8"), (Overtaken, "1/8")])
def test_waiting_for_the_queue_is_not_cost(clock, codec, detail):
    with SimulatedDevice(clock) as machine:
        session = run(machine, codec(machine, COST), budget=3, detail=detail)
        assert session.stats.frames >= 25
        if codec is CodecOnDevice:
            assert session.stats.share <= 0.031
            assert session.frame.milliseconds <= 1000 * COST["full"]


def test_a_preview_on_the_cpu_takes_the_latent_down_and_nothing_up(clock):
    with SimulatedDevice(clock) as machine:
        session = run(machine, FakeCodec(clock, COST), budget=3, detail="Auto", device=DEVICE_CPU)
        assert session.stats.frames >= 25
        assert machine.uploads == 0
        assert session.stats.share <= 0.031


def test_memory_that_runs_out_is_less_detail(clock):
    with SimulatedDevice(clock, memory=1.0) as machine:
        session = run(machine, CodecOnDevice(machine, COST, {"full": 4.0, "1/2": 2.0, "1/4": 0.9}))
        assert (session.stats.frames, session.frame.detail) == (30, "1/4")


def test_which_devices_share_their_queue():
    assert shares_queue(DEVICE)
    assert not shares_queue(FakeCodec.device)
