"""Which floating-point type a codec computes in, where the user leaves that to the device.

The types differ in speed by up to four times and in accuracy by far more than a preview shows: against float32 a
decode in float16 agrees to about 72 dB and in bfloat16 to about 54 dB (an 8-bit picture resolves about 59 dB).
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from taesd_ext.errors import TaesdError, log, one_line
from taesd_ext.models.fast import FastDecoder
from taesd_ext.models.tiny import Decoder
from taesd_ext.weights.folders import cache_folder

DtypeChoice = torch.dtype | Literal["auto"] | None
"""None is float32, "auto" is what the device does best."""

# By the vendors' documentation: CUDA devices have had fast float16 convolutions since Volta (compute capability 7) and
# compute them with float32 sums before; Apple's Metal kernels take float16 on every chip, bfloat16 only from macOS 14;
# Intel's XPUs have matrix units for both. A device that is not listed (DirectML among them) stays at float32.
_BY_DEVICE = {"cuda": torch.float16, "mps": torch.float16, "xpu": torch.float16}

PROBE_SIDES = (4, 4, 16, 16, 16, 16, 16)
"""Latent positions along a side of the probe's pictures, the small ones to warm up; 16 is 128 px, 50 ms a decode."""

HOPELESS = 3.0
"""A type that takes so many times what float32 does is not tried again: without hardware for it, it may crawl."""

WORTH = 0.85
"""A narrow type must take at most this part of float32's time, to make up for what it loses in accuracy."""

FINER_WORTH = 1.15
"""float16, eight times as accurate, is taken where it costs at most so many times what bfloat16 does."""

_CANDIDATES = (torch.float32, torch.bfloat16, torch.float16)
_CACHE_NAME = "dtype_probe.json"
_TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "asimdhp", "bf16", "i8mm")


def resolve_dtype(dtype: DtypeChoice, device: str | torch.device = "cpu") -> torch.dtype:
    """The type to compute in. "auto" on a CPU takes about a second once per machine, and nothing after that.

    Raises TaesdError for a type that this torch has no convolutions in on this device.
    """
    if dtype is None:
        return torch.float32
    device_type = torch.device(device).type
    if dtype == "auto":
        return auto_dtype(device_type)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TaesdError(f"Cannot compute in {dtype}", 'a floating-point torch.dtype, "auto" or None was expected')
    if device_type == "cpu" and not _convolves(dtype):
        raise TaesdError(
            f"Cannot compute in {dtype} on the CPU",
            f"torch {torch.__version__} has no convolutions in it",
            'Choose float32, or dtype "auto" for the fastest that works here',
        )
    return dtype


@functools.cache
def _convolves(dtype: torch.dtype) -> bool:
    """Whether the CPU of this torch can (half precision came with torch 2.2, 8-bit types are for storage)."""
    try:
        torch.nn.functional.conv2d(torch.zeros(1, 1, 3, 3, dtype=dtype), torch.zeros(1, 1, 3, 3, dtype=dtype))
    except (RuntimeError, NotImplementedError):
        return False
    return True


@functools.cache
def auto_dtype(device_type: str) -> torch.dtype:
    """What this kind of device does best; a CPU is asked by timing it, and its answer kept in the user's cache."""
    if device_type == "cpu":
        return _cached_probe(cache_folder() / _CACHE_NAME, machine_key(), probe_cpu)
    return _BY_DEVICE.get(device_type, torch.float32)


def probe_cpu() -> dict[torch.dtype, float]:
    """Seconds of a small real decode in each type that this CPU and this torch can do, interleaved, best of a few.

    The weights are made up, without touching the global random state: time does not depend on them.
    """
    decoders = {dtype: _made_up_decoder(dtype) for dtype in _CANDIDATES}
    best: dict[torch.dtype, float] = {}
    for side, sooner in zip(PROBE_SIDES, (None, *PROBE_SIDES), strict=False):
        if side != sooner:
            best.clear()
        for dtype in list(decoders):
            seconds = _decode_seconds(decoders[dtype], side, dtype)
            best[dtype] = min(best.get(dtype, math.inf), seconds)
            if best[dtype] > HOPELESS * best[torch.float32] and side == sooner:
                del decoders[dtype], best[dtype]
    return best


def _decode_seconds(decoder: FastDecoder, side: int, dtype: torch.dtype) -> float:
    """Seconds of one decode; infinity where this torch cannot (half precision on the CPU came with torch 2.2)."""
    latent = torch.full((1, 4, side, side), 0.5, dtype=dtype)
    begun = time.perf_counter()
    try:
        with torch.inference_mode():
            decoder(latent)
    except (RuntimeError, NotImplementedError):
        return math.inf
    return time.perf_counter() - begun


def fastest(seconds: dict[torch.dtype, float]) -> torch.dtype:
    """float32, unless a narrower type is clearly faster; the more accurate of two that are about equally fast."""
    narrow = {dtype: spent for dtype, spent in seconds.items() if dtype != torch.float32}
    if not narrow or min(narrow.values()) > WORTH * seconds[torch.float32]:
        return torch.float32
    if narrow.get(torch.float16, math.inf) <= FINER_WORTH * min(narrow.values()):
        return torch.float16
    return torch.bfloat16


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor is free of NaN and infinity, in one pass: either would survive the sum."""
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))


def cpu_model() -> str:
    """The CPU's name, as its maker or its hypervisor gives it."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_flags(wanted: tuple[str, ...] = _TELLING_FLAGS) -> tuple[str, ...]:
    """Those of the ``wanted`` instruction sets that the system reports; empty where it reports none (not Linux)."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            have = set(value.split())
            return tuple(flag for flag in wanted if flag in have)
    return ()


def machine_key() -> str:
    """What the answer of the probe depends on: the CPU, what it can do, and torch's version."""
    return " | ".join((cpu_model(), " ".join(cpu_flags()), f"torch {torch.__version__}"))


def _cached_probe(path: Path, key: str, probe: Callable[[], dict[torch.dtype, float]]) -> torch.dtype:
    known = _read_cache(path)
    entry = known.get(key)
    name = entry.get("dtype") if isinstance(entry, dict) else None
    by_name = {str(dtype).removeprefix("torch."): dtype for dtype in _CANDIDATES}
    if name in by_name:
        return by_name[name]
    seconds = probe()
    chosen = fastest(seconds)
    names = {str(dtype).removeprefix("torch."): round(1000 * spent, 1) for dtype, spent in seconds.items()}
    _write_cache(path, {**known, key: {"dtype": str(chosen).removeprefix("torch."), "ms": names}})
    return chosen


def _read_cache(path: Path) -> dict:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(path: Path, known: dict) -> None:
    """Replace the file at once; a cache that cannot be written only means that the next process probes again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=1)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        log.debug("cannot keep the timing probe's result: %s", one_line(error))


@functools.cache
def _cpuinfo() -> tuple[str, ...]:
    try:
        return tuple(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return ()


def _made_up_decoder(dtype: torch.dtype) -> FastDecoder:
    with torch.inference_mode(False), torch.no_grad():
        with torch.device("meta"):
            plain = Decoder(4, midblock_norm=True)
        plain = plain.to_empty(device="cpu")
        for parameter in plain.parameters():
            parameter.fill_(0.01)
        return FastDecoder(plain).to(dtype)
