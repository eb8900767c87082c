"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
