"""The contract's own test: on a small host written here it holds, and each change of the host is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from host_contract import COMMON, SEAMS, imports, indexes, never_imported, option, takes
from host_source import HostSource, Missing

FILES = {
    COMMON: """
approximation_indexes = {"Full": 0, "TAESD": 3}

def samples_to_images_tensor(sample, approximation=None, model=None):
    return sample

def single_sample_to_image(sample, approximation=None):
    return samples_to_images_tensor(sample, approximation)
""",
    "modules/processing.py": "from modules.sd_samplers_common import images_tensor_to_samples\n",
    "modules/shared_options.py": """
options_templates.update(options_section(("ui", "Live previews", "ui"), {
    "show_progress_type": OptionInfo("Full", "Method", gr.Radio, {"choices": ("Full", "TAESD")}).info("x").html("y"),
}))
""",
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., HostSource]:
    def build(**changes: tuple[str, str]) -> HostSource:
        for file, text in FILES.items():
            for old, new in changes.values():
                text = text.replace(old, new)
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return HostSource(tmp_path)

    return build


CHECKS = {
    "signature": takes(COMMON, "samples_to_images_tensor", "sample", "approximation", "model"),
    "copy": imports("modules/processing.py", "images_tensor_to_samples",
                    "modules.sd_samplers_common.images_tensor_to_samples"),
    "no copy": never_imported("samples_to_images_tensor", "modules/processing.py"),
    "index": indexes({"Full": 0, "TAESD": 3}),
    "choice": option("show_progress_type", "TAESD", sections=("Live previews",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_holds(name: str, write: Callable[..., HostSource]) -> None:
    assert CHECKS[name](write()) is None


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("signature", "(sample, approximation=None, model=None)", "(sample, model=None, approximation=None)"),
        ("signature", "def samples_to_images_tensor", "def samples_to_images"),
        ("copy", "from modules.sd_samplers_common import", "from modules.latents import"),
        ("no copy", "import images_tensor_to_samples", "import images_tensor_to_samples, samples_to_images_tensor"),
        ("index", '"TAESD": 3', '"TAESD": 4'),
        ("choice", '("Full", "TAESD")', '("Full", "Tiny")'),
        ("choice", '"Live previews"', '"Elsewhere"'),
    ],
)
def test_notices(name: str, old: str, new: str, write: Callable[..., HostSource]) -> None:
    host = write(change=(old, new))
    try:
        wrong = CHECKS[name](host)
    except Missing as missing:
        wrong = str(missing)
    assert wrong


def test_a_seam_that_comes_back_is_noticed(write: Callable[..., HostSource]) -> None:
    seam = next(seam for seam in SEAMS if seam.name == "show_progress_type has Full")
    host = write()
    assert host.kind == "a1111"
    assert seam.broken(host) is None
    host.kind = "forge"
    assert "is there now" in (seam.broken(host) or "")
