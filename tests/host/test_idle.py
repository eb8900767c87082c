from __future__ import annotations

import threading
import time

import pytest

from taesd_ext.codec.codec import Source
from taesd_ext.host.idle import IdleCalibration


class Codec:
    """Learns for a while, and stops when told."""

    name, has_decoder, details = "taesd", True, ("full",)

    def __init__(self, path="a", seconds=0.05, result=True):
        self.source = Source(decoder=path)
        self.seconds, self.result = seconds, result
        self.runs, self.done = 0, threading.Event()

    def calibrate(self, *, should_stop):
        self.runs += 1
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            if should_stop():
                return False
            time.sleep(0.001)
        self.details = ("1/8", "full") if self.result else ("full",)
        self.done.set()
        return self.result


class Host:
    busy = False

    def is_busy(self):
        return self.busy


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def idle(host):
    calibration = IdleCalibration(host.is_busy, rest=0.02, glance=0.01)
    yield calibration
    calibration.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "taesd-ext-calibration"]


def test_it_learns_once_when_nobody_waits(idle):
    codec = Codec()
    idle.want(codec)
    assert codec.done.wait(10)
    idle.want(codec)
    time.sleep(0.1)
    assert codec.runs == 1


def test_it_waits_for_a_job_and_stops_for_one(idle, host):
    host.busy = True
    codec = Codec(seconds=0.5)
    idle.want(codec)
    time.sleep(0.1)
    assert codec.runs == 0
    host.busy = False
    while codec.runs == 0:
        time.sleep(0.001)
    host.busy = True
    time.sleep(0.1)
    assert not codec.done.is_set()
    host.busy = False
    assert codec.done.wait(10)
    assert codec.runs == 2


def test_what_cannot_be_learnt_is_tried_once(idle):
    codec = Codec(result=False)
    idle.want(codec)
    assert codec.done.wait(10)
    time.sleep(0.1)
    for _ in range(3):
        idle.want(codec)
        time.sleep(0.05)
    assert codec.runs == 1


def test_codecs_with_heads_are_left_alone(idle):
    codec = Codec()
    codec.details = ("1/8", "full")
    idle.want(codec)
    time.sleep(0.1)
    assert codec.runs == 0


def test_the_codec_wanted_last_is_learnt_too(idle, host):
    first, second = Codec("a", seconds=0.2), Codec("b")
    idle.want(first)
    while first.runs == 0:
        time.sleep(0.001)
    idle.want(second)
    assert second.done.wait(10)
