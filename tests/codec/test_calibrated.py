"""A file's reduced detail is found once, and anew when the file or what was learnt here changed."""

import os
from pathlib import Path

import pytest
from safetensors.torch import save_file

from taesd_ext.codec import calibrated
from taesd_ext.codec.calibrated import details_of_file
from taesd_ext.models.tiny import Decoder


@pytest.fixture
def decoder_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(calibrated, "_remembered", {})
    path = tmp_path / "taesd_decoder.safetensors"
    save_file(Decoder(4).state_dict(), path)
    return path


def test_what_a_file_has(weights_dir: Path, decoder_file: Path) -> None:
    assert details_of_file("taesd", decoder_file, look=False) is None
    for look in (True, False):
        assert details_of_file("taesd", decoder_file, look=look) == "", "weights that nobody has seen"
    assert details_of_file("taesd3", decoder_file) == "", "a decoder of another kind"
    assert details_of_file("taesd", weights_dir / "taesd_decoder.safetensors") == "shipped"
    decoder_file.write_bytes(b"<html>log in</html>")
    assert details_of_file("taesd", decoder_file) == ""
    decoder_file.unlink()
    assert details_of_file("taesd", decoder_file) == ""


def test_looked_at_again_after_learning_and_when_the_file_changed(
    decoder_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = []
    monkeypatch.setattr(calibrated, "_found", lambda *_: looks.append(1) or "")
    for _ in range(2):
        details_of_file("taesd", decoder_file)
    assert len(looks) == 1
    (tmp_path / "cache" / "taesd_ext" / "heads").mkdir(parents=True)
    details_of_file("taesd", decoder_file)
    assert len(looks) == 2
    os.utime(decoder_file, (1, 1))
    details_of_file("taesd", decoder_file)
    assert len(looks) == 3
