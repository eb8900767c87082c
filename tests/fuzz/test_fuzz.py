"""Some mutated files per format; FUZZ_CASES sets how many. `run_fuzz.py` is the long run."""

import os
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the readers' memory is measured as Linux does", allow_module_level=True)

from run_fuzz import fuzz
from seeds import FORMATS

CASES = int(os.environ.get("FUZZ_CASES", "80"))

# Our own limit is a picture of 2**26 pixels with four channels: 1 GB as a latent, beside its bytes (1.8 GB were seen).
MOST_MEMORY_MB = {"png": 2048}


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_are_refused_or_read(kind: str) -> None:
    if kind == "h5":
        pytest.importorskip("h5py")
    result = fuzz(kind, CASES)
    print(result)
    assert not result.problems
    assert result.counts["refused"] > CASES // 4, "the mutations are too tame"
    assert result.memory_mb < MOST_MEMORY_MB.get(kind, 400)
