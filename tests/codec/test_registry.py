import gc
import threading
import time
import weakref
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from taesd_ext.codec.codec import Codec
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.registry import FIRST_PAUSE, CodecRegistry
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import native_format
from taesd_ext.models.tiny import Decoder


class Loader:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: Exception | None = None
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, family, *, models_dir, device, dtype):
        self.calls.append(family)
        assert self.may_go.wait(120)
        if self.failing:
            raise self.failing
        return Codec(family, native_format(family), device=device, dtype=dtype)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def kept_by(registry: CodecRegistry) -> set[str]:
    return {key.family for key in registry._codecs}


def test_each_codec_is_loaded_once_however_many_ask():
    load = Loader()
    load.may_go.clear()
    registry = CodecRegistry(load=load)
    got = []
    threads = [threading.Thread(target=lambda: got.append(registry.get("taesd"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    load.may_go.set()
    for thread in threads:
        thread.join()
    assert load.calls == ["taesd"]
    assert len(set(map(id, got))) == 1
    assert registry.get("taesd", dtype=torch.bfloat16) is not got[0]
    assert kept_by(registry) == {"taesd"}


def test_who_must_not_wait_gets_an_error_while_another_loads():
    load = Loader()
    load.may_go.clear()
    registry = CodecRegistry(load=load)
    thread = threading.Thread(target=registry.get, args=("taesd",))
    thread.start()
    while not load.calls:
        time.sleep(0.001)
    with pytest.raises(TaesdError, match="not loaded yet"):
        registry.get("taesdxl", wait=False)
    with pytest.raises(TaesdError, match="not loaded yet"):
        registry.loaded("taesd")
    load.may_go.set()
    thread.join()
    assert registry.loaded("taesd") is registry.get("taesd", wait=False)


def test_a_remembered_failure_keeps_nothing_of_its_callers():
    load = Loader()
    load.failing = RuntimeError("boom")
    registry = CodecRegistry(load=load)

    def caller():
        picture = torch.zeros(1)
        for ask in (registry.get, registry.loaded):
            with pytest.raises(TaesdError, match="boom"):
                ask("taesd")
        return weakref.ref(picture)

    pictures = [caller() for _ in range(2)]
    load.failing = None
    gc.collect()
    assert load.calls == ["taesd"]
    assert [picture() for picture in pictures] == [None, None]
    (failure,) = registry._failures.values()
    assert failure.error.__traceback__ is None


def test_a_failure_is_remembered_for_a_while():
    load, clock = Loader(), Clock()
    load.failing = RuntimeError("boom")
    registry = CodecRegistry(load=load, clock=clock)
    for _ in range(5):
        with pytest.raises(TaesdError, match="RuntimeError: boom"):
            registry.get("taesd")
    assert len(load.calls) == 1
    clock.now += FIRST_PAUSE + 1
    for _ in range(2):
        with pytest.raises(TaesdError):
            registry.get("taesd")
    assert len(load.calls) == 2
    clock.now += FIRST_PAUSE + 1
    with pytest.raises(TaesdError):
        registry.get("taesd")
    assert len(load.calls) == 2, "the pause doubles"
    load.failing = None
    registry.release("taesd")
    assert registry.get("taesd").name == "taesd"


def test_a_file_put_in_place_is_found_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = CodecRegistry(lambda: [tmp_path], load=partial(load_codec, embedded=False))
    with pytest.raises(TaesdError, match="No weights for taesd"):
        registry.get("taesd")
    save_file(Decoder().state_dict(), tmp_path / "taesd_decoder.safetensors")
    assert registry.get("taesd").has_decoder


def test_loaded_in_inference_mode_it_works_outside():
    def load(family, **kwargs):
        return Codec(family, native_format(family), decoder=Decoder())

    registry = CodecRegistry(load=load)
    with torch.inference_mode():
        codec = registry.get("taesd")
    assert not any(parameter.is_inference() for parameter in codec.decoder.parameters())
    codec.decode(torch.zeros(1, 4, 2, 2))


def test_the_two_codecs_last_used_are_kept():
    loads = []
    registry = CodecRegistry(load=lambda family, **_named: loads.append(family) or Codec(family, native_format(family)))
    for family in ("taesd", "taesdxl", "taesd", "taesd3", "taesd", "taesd3"):
        registry.get(family)
    assert loads == ["taesd", "taesdxl", "taesd3"]
    assert kept_by(registry) == {"taesd", "taesd3"}
    assert registry.borrow("taef1").family == "taef1"
    assert registry.borrow("taesd") is registry.loaded("taesd")
    assert kept_by(registry) == {"taesd", "taesd3"}
    registry.release("taesd")
    assert kept_by(registry) == {"taesd3"}
    registry.release()
    assert not kept_by(registry)
