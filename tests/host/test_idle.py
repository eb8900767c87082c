from __future__ import annotations

import threading
import time

import pytest

from taesd_ext.codec.codec import Source
from taesd_ext.host import idle
from taesd_ext.host.idle import IdleLearning

SLICES = 50


class Codec:
    name, has_decoder, details = "taesd", True, ("full",)

    def __init__(self, path: str = "a", slices: int = SLICES, error: Exception | None = None) -> None:
        self.source = Source(decoder=path)
        self.slices, self.error = slices, error
        self.begun, self.done = 0, threading.Event()


def learn(codec: Codec):
    codec.begun += 1
    for index in range(codec.slices):
        time.sleep(0.002)
        yield index / codec.slices
    codec.done.set()
    if codec.error:
        raise codec.error


class Host:
    busy = False

    def is_busy(self) -> bool:
        return self.busy


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def learning(host, monkeypatch):
    monkeypatch.setattr(idle, "learn_heads", learn)
    learning = IdleLearning(host.is_busy, rest=0.02, period=0.01)
    yield learning
    learning.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "taesd-ext-learning"]


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("error", [None, ValueError("broken weights")])
def test_a_codec_is_learnt_once_well_or_not(learning, error):
    codec = Codec(error=error)
    learning.want(codec)
    assert codec.done.wait(10)
    until(lambda: learning._thread is None)
    learning.want(codec)
    assert learning._thread is None
    assert codec.begun == 1


def test_it_waits_for_a_job_and_goes_on_after_one(learning, host):
    host.busy = True
    codec = Codec(slices=200)
    learning.want(codec)
    time.sleep(0.1)
    assert codec.begun == 0
    host.busy = False
    until(lambda: codec.begun)
    host.busy = True
    assert not codec.done.wait(0.6)
    host.busy = False
    assert codec.done.wait(10)
    assert codec.begun == 1


def test_codecs_with_heads_are_left_alone(learning):
    codec = Codec()
    codec.details = ("1/8", "full")
    learning.want(codec)
    assert learning._thread is None


def test_the_codec_wanted_last_is_learnt_too(learning):
    first, second = Codec("a"), Codec("b")
    learning.want(first)
    until(lambda: first.begun)
    learning.want(second)
    assert second.done.wait(10)
