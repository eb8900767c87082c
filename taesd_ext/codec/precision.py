"""Which floating-point type a codec computes in where the user leaves that to the device, and what if it is too narrow.

The types differ in speed by up to four times and in accuracy by far more than a preview shows: against float32 a
decode in float16 agrees to about 72 dB and in bfloat16 to about 54 dB (an 8-bit picture resolves about 59 dB).
"""

import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from taesd_ext.errors import TaesdError, log_once

DtypeChoice = torch.dtype | Literal["auto"] | None
"""None is float32, "auto" is what the device does best."""

# By the vendors' documentation: CUDA devices have had fast float16 convolutions since Volta (compute capability 7) and
# compute them with float32 sums before; Apple's Metal kernels take float16 on every chip, bfloat16 only from macOS 14;
# Intel's XPUs have matrix units for both. A device that is not listed (DirectML among them) stays at float32.
_BY_DEVICE = {"cuda": torch.float16, "mps": torch.float16, "xpu": torch.float16}

_CPU_TYPES = {
    "amx_fp16": ("_is_amx_fp16_supported", torch.float16),
    "amx_bf16": ("_is_amx_tile_supported", torch.bfloat16),
    "avx512_bf16": ("_is_avx512_bf16_supported", torch.bfloat16),
}
"""Instruction set -> the function of torch.cpu that knows it, in the versions that have it, and the type that it
multiplies at least twice as fast as float32, best first. Others that compute in narrow types (plain AVX512, AVX2,
ARM's) are no faster in convolutions, or nobody has measured them."""

_TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "asimdhp", "bf16", "i8mm")


def resolve_dtype(dtype: DtypeChoice, device: str | torch.device = "cpu") -> torch.dtype:
    """The type to compute in. Raises TaesdError for one that this torch has no convolutions in on this device."""
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
    """What this kind of device does best; a CPU by what its instruction sets multiply fast."""
    if device_type != "cpu":
        return _BY_DEVICE.get(device_type, torch.float32)
    for name, (question, dtype) in _CPU_TYPES.items():
        # By torch where it knows the instruction set (Windows, Linux), else by the system's list (Linux).
        known = getattr(torch.cpu, question, None)
        if (known() if known else name in cpu_flags()) and _convolves(dtype):
            return dtype
    return torch.float32


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor is free of NaN and infinity, in one pass: either would survive the sum."""
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))


class Overflow(Exception):
    """A narrow dtype could not hold what a network computes."""


Method = TypeVar("Method", bound=Callable[..., Tensor])


def or_in_float32(method: Method) -> Method:
    """A codec's method that is done again in float32 where it overflows, and from then on for the rest of the job."""

    @functools.wraps(method)
    def run(codec: Any, *given: Any, **options: Any) -> Tensor:
        if not codec.overflowed:
            try:
                return method(codec, *given, **options)
            except Overflow:
                codec.overflowed = True
                narrow = str(codec.dtype).removeprefix("torch.")
                what = f"{codec.name} overflowed in {narrow}"
                log_once(what, f"{what}: this job continues in float32.")
        return method(codec.in_float32(), *given, **options)

    return run


def cpu_model() -> str:
    """The CPU's name, as its maker or its hypervisor gives it."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_flags() -> tuple[str, ...]:
    """The telling ones of the instruction sets that the system reports; empty where it reports none (not Linux)."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            have = set(value.split())
            return tuple(flag for flag in _TELLING_FLAGS if flag in have)
    return ()


@functools.cache
def _cpuinfo() -> tuple[str, ...]:
    try:
        return tuple(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return ()
