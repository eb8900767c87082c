"""dtype="auto": what a CPU is quick in, and what happens when a narrow type overflows."""

import pytest
import torch

from taesd_ext.codec import precision
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.precision import is_finite, resolve_dtype
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.models.tiny import Decoder, Encoder

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


class TestAuto:
    @pytest.mark.parametrize(
        ("flags", "convolves", "expected"),
        [
            ((), (F32, BF16, F16), F32),
            (("avx2", "avx512f"), (F32, BF16, F16), F32),
            (("avx512_bf16",), (F32, BF16, F16), BF16),
            (("avx512_bf16", "amx_bf16"), (F32, BF16), BF16),
            (("avx512_bf16", "amx_bf16", "amx_fp16"), (F32, BF16, F16), F16),
            (("avx512_bf16", "amx_bf16", "amx_fp16"), (F32, BF16), BF16),
            (("avx512_fp16", "asimdhp"), (F32, BF16, F16), F32),
        ],
    )
    @pytest.mark.parametrize("torch_knows", [False, True])
    def test_a_cpu_is_asked_what_it_has(self, monkeypatch, flags, convolves, expected, torch_knows):
        monkeypatch.setattr(precision, "_convolves", lambda dtype: dtype in convolves)
        for name, (question, _) in precision._CPU_TYPES.items():
            if torch_knows:
                monkeypatch.setattr(torch.cpu, question, lambda name=name: name in flags, raising=False)
            else:
                monkeypatch.delattr(torch.cpu, question, raising=False)
        monkeypatch.setattr(precision, "cpu_flags", lambda: () if torch_knows else flags)
        assert precision.auto_dtype.__wrapped__("cpu") == expected

    def test_other_devices(self):
        assert resolve_dtype("auto", "cuda:1") == F16
        assert resolve_dtype("auto", torch.device("mps")) == F16
        assert resolve_dtype("auto", "meta") == F32

    def test_the_rest_is_as_given_if_this_torch_can(self, monkeypatch):
        assert resolve_dtype(None) == F32
        assert resolve_dtype(torch.float64) == torch.float64
        for wrong in ("half", torch.int8, 16):
            with pytest.raises(TaesdError, match="Cannot compute in"):
                resolve_dtype(wrong)
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
            "[TAESD] taesd overflowed in float16: this job continues in float32."
        ]

    def test_the_next_job_tries_again(self, codec, monkeypatch):
        latent = torch.randn(1, 4, 8, 8)
        codec.decode(latent)
        runs = []
        first = codec._decoder.layers()[0]
        monkeypatch.setattr(type(first), "forward", lambda _, x: (x.dtype == F16 and runs.append(1)) or x)
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
