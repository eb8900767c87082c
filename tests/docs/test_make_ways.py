"""The picture that the README promises can be made by anybody, and without touching the repository's own."""

import importlib.util
from pathlib import Path

from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_ways.py"


def test_draws_the_ways_here(weights_dir, monkeypatch, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("make_ways", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "RUNS", 1)
    monkeypatch.setattr(script, "SIDE", 128)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAESD_MODELS", str(weights_dir))
    own = (SCRIPT.parent / "ways.webp").read_bytes()
    script.main([])
    with Image.open(tmp_path / "ways.webp") as picture:
        assert picture.width > 3 * 320
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000
    assert (SCRIPT.parent / "ways.webp").read_bytes() == own
    assert "TAESD, detail full" in capsys.readouterr().out
