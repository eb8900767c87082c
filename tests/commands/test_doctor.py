"""The text for a report: what it names, what it must not hold, and what it finds wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from taesd_ext.commands import doctor
from taesd_ext.commands.doctor import diagnose, without_private
from taesd_ext.weights.catalog import CATALOG


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a working folder of our own, without weights."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("XDG_CACHE_HOME", "TAESD_MODELS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_names_versions_host_errors_and_timings() -> None:
    text = diagnose(host="A1111 v1.10.1", errors=["taesd has no decoder."], timings=["9 ms a preview"]).text
    for words in ("taesd_ext 0", "torch 2", "A1111 v1.10.1", "taesd has no decoder.", "9 ms a preview", "taef2: no"):
        assert words in text


def test_empty_installation_says_what_to_do() -> None:
    diagnosis = diagnose()
    assert len(diagnosis.problems) == 1
    assert "weights download taesd" in diagnosis.problems[0]


def test_bad_file_and_bad_environment_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "taesd_decoder.pth").write_bytes(b"<html>log in</html>")
    monkeypatch.setenv("TAESD_MODELS", str(tmp_path / "absent"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "_version", lambda name: {"torch": "1.13.1", "gradio": ""}.get(name, "99.0"))
    problems = "\n".join(diagnose([tmp_path / "home"]).problems)
    for words in ("web page", "absent, which is no folder", "HF_HUB_OFFLINE", "torch 1.13.1 is older", "gradio is mis"):
        assert words in problems


def test_older_official_version_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = next(row for row in CATALOG if row.family == "taesd" and row.parts == ("decoder",) and row.sources)
    data = b"old weights that are official"
    checksum = hashlib.sha256(data).hexdigest()
    old = replace(newest, version="0.9", sources=(), git_sha1="", sha256=checksum, size=len(data))
    monkeypatch.setattr("taesd_ext.weights.catalog.CATALOG", (old, *CATALOG))
    monkeypatch.setattr("taesd_ext.weights.identify.CATALOG", (replace(old, kind="autoencoder_kl"), *CATALOG))
    (tmp_path / "work" / "taesd_decoder.pth").write_bytes(data)
    problems = "\n".join(diagnose([tmp_path / "work"]).problems)
    assert f"taesd decoder 0.9, and {newest.version} is out" in problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/sd/models/x.pth", "~/sd/models/x.pth"),
        ("see /home/ann.", "see ~."),
        (r"C:\Users\Ann Lee\sd\x.pth", r"~\sd\x.pth"),
        ("/Users/ann/sd", "~/sd"),
        ("/opt/homework/x", "/opt/homework/x"),
    ],
)
def test_no_home_of_anybody(text: str, expected: str) -> None:
    assert without_private(text) == expected


def test_text_holds_no_private_path(tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir()
    (models / "taesd_decoder.pth").write_bytes(b"PK\x03\x04")
    diagnosis = diagnose([models], errors=[f"{models}/a.pth does not exist"])
    assert str(tmp_path / "home") not in diagnosis.text + "".join(diagnosis.problems)
    assert "~/models" in diagnosis.text
