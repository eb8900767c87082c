"""Fixtures that every test may use."""

import contextlib
from pathlib import Path

import pytest
import torch

from taesd_ext import errors

SHARED = Path(__file__).resolve().parents[2] / "shared"


with contextlib.suppress(ImportError):  # the second device's environment has none
    from hypothesis import settings

    # The same examples in every run, however busy the machine; the fuzzer looks for new ones.
    settings.register_profile("steady", derandomize=True, deadline=None)
    settings.load_profile("steady")


@pytest.fixture(autouse=True)
def as_if_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whichever tests ran before: the same random numbers, and what is said once is said once in each test.

    No weights of the user's own: an empty cache, and no folder that the environment names.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TAESD_MODELS", raising=False)
    torch.manual_seed(0)
    monkeypatch.setattr(errors, "_said", {})


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data for development beside the repository: real weights, reference outputs, checkpoints."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the development data in {SHARED.name}/ beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def weights_dir(shared: Path) -> Path:
    """Real trained weights of every family."""
    return shared / "weights"


@pytest.fixture(scope="session")
def reference_dir(shared: Path) -> Path:
    """Published and golden outputs."""
    return shared / "reference"


@pytest.fixture(scope="session")
def half_on_cpu() -> None:
    """For tests that compute in float16: torch's CPU has had the convolutions since 2.2."""
    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3).half(), torch.ones(1, 1, 3, 3).half())
    except RuntimeError:
        pytest.skip("this torch has no float16 convolutions on the CPU")
