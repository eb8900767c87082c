"""The picture that the README promises can be made by anybody, and without touching the repository's own."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_ways.py"


@pytest.fixture
def script(monkeypatch, tmp_path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ways", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RUNS", 1)
    monkeypatch.setattr(module, "SIDE", 128)
    monkeypatch.chdir(tmp_path)
    return module


def test_draws_the_ways_here(script, weights_dir, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TAESD_MODELS", str(weights_dir))
    own = (SCRIPT.parent / "ways.webp").read_bytes()
    script.main([])
    with Image.open(tmp_path / "ways.webp") as picture:
        assert picture.width > 3 * 320
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000
    assert (SCRIPT.parent / "ways.webp").read_bytes() == own
    assert "TAESD, detail full" in capsys.readouterr().out


def test_without_weights_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    with pytest.raises(SystemExit, match="No weights for taesd") as caught:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "\n" not in caught.value.code
    assert not (tmp_path / "ways.webp").exists()
