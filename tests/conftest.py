"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from taesd_ext import errors

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once is said once in each test, whichever tests ran before it."""
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
