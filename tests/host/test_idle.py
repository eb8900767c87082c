import threading
import time

import pytest

from taesd_ext.codec.codec import Source
from taesd_ext.host import idle
from taesd_ext.host.idle import IdleLearning

LONG = 120
"""Seconds, for a machine that is busy otherwise."""


class Codec:
    name, has_decoder, details = "taesd", True, ("full",)

    def __init__(self, path: str = "a", error: Exception | None = None) -> None:
        self.source = Source(decoder=path)
        self.error, self.begun = error, 0
        self.enough, self.done = threading.Event(), threading.Event()


def learn(codec: Codec):
    """In slices, until it is enough."""
    codec.begun += 1
    while not codec.enough.wait(0.002):
        yield 0.5
    codec.done.set()
    if codec.error:
        raise codec.error


class Host:
    busy = False
    refusals = 0

    def is_busy(self) -> bool:
        self.refusals += self.busy
        return self.busy


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def learning(host, monkeypatch):
    monkeypatch.setattr(idle, "_learn_heads", learn)
    learning = IdleLearning(host.is_busy, rest=0.02, period=0.01)
    yield learning
    learning.close()
    assert learning._thread is None or not learning._thread.is_alive()


def until(condition) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def until_refused(host) -> None:
    """Whoever asked in vain so often waits for the end of the job."""
    before = host.refusals
    until(lambda: host.refusals > before + 2)


@pytest.mark.parametrize("error", [None, ValueError("broken weights")])
def test_a_codec_is_learnt_once_well_or_not(learning, error):
    codec = Codec(error=error)
    codec.enough.set()
    learning.want(codec)
    assert codec.done.wait(LONG)
    until(lambda: learning._thread is None)
    learning.want(codec)
    assert learning._thread is None
    assert codec.begun == 1


def test_it_waits_for_a_job_and_goes_on_after_one(learning, host):
    host.busy = True
    codec = Codec()
    learning.want(codec)
    until_refused(host)
    assert codec.begun == 0
    host.busy = False
    until(lambda: codec.begun)
    host.busy = True
    until_refused(host)
    codec.enough.set()
    until_refused(host)
    assert not codec.done.is_set()
    host.busy = False
    assert codec.done.wait(LONG)
    assert codec.begun == 1


def test_codecs_with_heads_are_left_alone(learning):
    codec = Codec()
    codec.details = ("1/8", "full")
    learning.want(codec)
    assert learning._thread is None


def test_the_codec_wanted_last_is_learnt_too(learning, host):
    first, second = Codec("a"), Codec("b")
    second.enough.set()
    learning.want(first)
    until(lambda: first.begun)
    learning.want(second)
    host.busy = True
    until_refused(host)
    host.busy = False
    assert second.done.wait(LONG)
