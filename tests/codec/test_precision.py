"""dtype="auto": what the probe chooses, where it keeps the answer, and what happens when a narrow type overflows."""

from __future__ import annotations

import json

import pytest
import torch

from taesd_ext.codec import precision
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.precision import fastest, is_finite, probe_cpu, resolve_dtype
from taesd_ext.errors import TaesdError, forget_logged
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.tiny import Decoder, Encoder

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    precision.auto_dtype.cache_clear()
    yield tmp_path / "taesd_ext" / "dtype_probe.json"
    precision.auto_dtype.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({F32: 1.0}, F32),
        ({F32: 1.0, BF16: 0.9}, F32),
        ({F32: 1.0, BF16: 0.4}, BF16),
        ({F32: 1.0, BF16: 0.4, F16: 0.9}, BF16),
        ({F32: 1.0, BF16: 0.4, F16: 0.42}, F16),
        ({F32: 1.0, BF16: 2.0, F16: 0.5}, F16),
    ],
)
def test_a_narrow_type_must_be_clearly_faster(seconds, expected):
    assert fastest(seconds) == expected


def test_the_probe_times_what_this_machine_can_do_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    seconds = probe_cpu()
    assert torch.equal(before, torch.random.get_rng_state())
    assert F32 in seconds
    assert all(0 < spent < float("inf") for spent in seconds.values())


def test_a_type_that_fails_or_crawls_is_dropped(monkeypatch):
    asked = []

    def decode_seconds(decoder, side, dtype):
        asked.append((side, dtype))
        return {F32: 1.0, BF16: float("inf"), F16: 9.0}[dtype]

    monkeypatch.setattr(precision, "_decode_seconds", decode_seconds)
    assert probe_cpu() == {F32: 1.0}
    assert {side for side, dtype in asked if dtype != F32} == {precision.PROBE_SIDES[0]}


class TestAuto:
    def test_is_asked_once_a_process_and_once_a_machine(self, cache, monkeypatch):
        probes = []
        monkeypatch.setattr(precision, "probe_cpu", lambda: probes.append(1) or {F32: 1.0, BF16: 0.3})
        assert resolve_dtype("auto") == BF16
        assert resolve_dtype("auto", "cpu") == BF16
        precision.auto_dtype.cache_clear()
        assert resolve_dtype("auto") == BF16
        assert len(probes) == 1
        entry = json.loads(cache.read_text())[precision.machine_key()]
        assert entry == {"dtype": "bfloat16", "ms": {"float32": 1000.0, "bfloat16": 300.0}}

    @pytest.mark.parametrize("spoilt", ["", "[]", "{", '{"KEY": 1}', '{"KEY": {"dtype": "int8"}}', "\x00"])
    def test_a_spoilt_cache_is_probed_again_and_mended(self, cache, monkeypatch, spoilt):
        cache.parent.mkdir(parents=True)
        cache.write_text(spoilt.replace("KEY", precision.machine_key()))
        monkeypatch.setattr(precision, "probe_cpu", lambda: {F32: 1.0, F16: 0.3})
        assert resolve_dtype("auto") == F16
        assert json.loads(cache.read_text())[precision.machine_key()]["dtype"] == "float16"

    def test_works_where_no_cache_can_be_kept(self, cache, monkeypatch):
        cache.parent.parent.joinpath("taesd_ext").write_text("a file where the folder should be")
        monkeypatch.setattr(precision, "probe_cpu", lambda: {F32: 1.0})
        assert resolve_dtype("auto") == F32

    def test_other_machines_keep_their_rows(self, cache, monkeypatch):
        cache.parent.mkdir(parents=True)
        cache.write_text('{"another CPU": {"dtype": "bfloat16"}}')
        monkeypatch.setattr(precision, "probe_cpu", lambda: {F32: 1.0})
        resolve_dtype("auto")
        assert set(json.loads(cache.read_text())) == {"another CPU", precision.machine_key()}

    def test_other_devices_are_not_timed(self):
        assert resolve_dtype("auto", "cuda:1") == F16
        assert resolve_dtype("auto", torch.device("mps")) == F16
        assert resolve_dtype("auto", "meta") == F32

    def test_the_rest_is_as_given(self):
        assert resolve_dtype(None) == F32
        assert resolve_dtype(torch.float64) == torch.float64
        for wrong in ("half", torch.int8, 16):
            with pytest.raises(TaesdError, match="Cannot compute in"):
                resolve_dtype(wrong)

    def test_a_type_that_this_torch_cannot_convolve_in_is_refused(self, monkeypatch):
        monkeypatch.setattr(precision, "_convolves", lambda dtype: dtype != F16)
        with pytest.raises(TaesdError, match="no convolutions in it"):
            resolve_dtype(F16, "cpu")
        assert resolve_dtype(F16, "cuda") == F16


def test_is_finite_sees_every_bad_value():
    good = torch.full((1, 3, 64, 64), 60000.0, dtype=F16)
    assert is_finite(good)
    for bad in (float("nan"), float("inf"), -float("inf")):
        spoilt = good.clone()
        spoilt[0, 2, 63, 63] = bad
        assert not is_finite(spoilt)


class TestOverflow:
    """A decoder whose features leave the range of float16 (65504) and come back, as some fine-tuned ones do."""

    @pytest.fixture
    def codec(self, half_on_cpu):
        forget_logged("overflow")
        torch.manual_seed(0)
        decoder, encoder = Decoder(4).eval(), Encoder(4).eval()
        with torch.no_grad():
            for network, first in ((decoder, 1), (encoder, 0)):
                network[first].weight.mul_(1e6)
                network[first].bias.mul_(1e6)
                network[-1].weight.mul_(1e-6)
        return Codec("taesd", BY_NAME["sd1"], encoder=encoder, decoder=decoder, dtype=F16)

    def test_the_job_goes_on_in_float32_and_it_is_said_once(self, codec, caplog):
        latent, image = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64)
        exact = codec.in_float32()
        for _ in range(2):
            torch.testing.assert_close(codec.decode(latent), exact.decode(latent))
            torch.testing.assert_close(codec.encode(image), exact.encode(image))
        assert [record.message for record in caplog.records] == [
            "[TAESD] taesd overflowed in float16: this job goes on in float32."
        ]

    def test_the_next_job_tries_again(self, codec, monkeypatch):
        latent = torch.randn(1, 4, 8, 8)
        codec.decode(latent)
        runs = []
        codec._decoder.layers()[0].register_forward_pre_hook(lambda *_: runs.append(1))
        codec.decode(latent)
        assert not runs
        codec.begin_job()
        codec.decode(latent)
        assert runs

    def test_a_latent_that_is_nan_itself_proves_nothing(self, codec, caplog):
        assert codec.decode(torch.full((1, 4, 8, 8), float("nan"))).isnan().any()
        assert not caplog.records

    def test_float32_is_its_own_fallback(self):
        codec = Codec("taesd", BY_NAME["sd1"], decoder=Decoder(4).eval())
        assert codec.in_float32() is codec
