"""The text for a report: what it names, what it must not hold, and what it finds wrong."""

from pathlib import Path

import pytest
from random_weights import random_weights
from safetensors.torch import save_file

from taesd_ext.cli import main
from taesd_ext.commands import doctor_files, packages
from taesd_ext.commands.doctor import diagnose
from taesd_ext.commands.private_text import without_private
from taesd_ext.models import tiny


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


def test_names_versions_host_errors_and_what_to_do() -> None:
    diagnosis = diagnose(host="A1111 v1.10.1", errors=["taesd has no decoder."], timings=["9 ms a preview"])
    for words in ("taesd_ext 0", "torch 2", "A1111 v1.10.1", "taesd has no decoder.", "9 ms a preview", "taef2, "):
        assert words in diagnosis.text
    assert "weights download taesd" in diagnosis.text
    assert diagnosis.problems == (), "there are previews without a file"


def test_bad_file_and_bad_environment_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "taesd_decoder.pth").write_bytes(b"<html>log in</html>")
    monkeypatch.setenv("TAESD_MODELS", str(tmp_path / "absent"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(packages, "_version", lambda name: {"torch": "1.13.1", "gradio": ""}.get(name, "99.0"))
    problems = "\n".join(diagnose([tmp_path / "home"]).problems)
    for words in ("web page", "absent is named in TAESD_MODELS", "HF_HUB_OFFLINE", "torch 1.13.1", "gradio is mis"):
        assert words in problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/sd/models/x.pth", "~/sd/models/x.pth"),
        ("see /home/ann.", "see ~."),
        (r"C:\Users\Ann Lee\sd\x.pth", r"~\sd\x.pth"),
        ("/Users/ann/sd", "~/sd"),
        ("/opt/homework/x", "/opt/homework/x"),
        ("/home/alice smith/models/x.pth", "~/models/x.pth"),
        ("/home/Smith, Alice (home)/models/x.pth", "~/models/x.pth"),
        ("/home/o'brien/x.pth is bad", "~/x.pth is bad"),
        ("/mnt/c/Users/Alice Smith/webui/x", "~/webui/x"),
        ("/var/home/ann/x", "~/x"),
        (r"'C:\\\\Users\\\\Ann Lee\\\\sd'", r"'~\\\\sd'"),
        ("/home/ann, /home/bob: none", "~, ~: none"),
        ("see /home/ann and /opt/x", "see ~ and /opt/x"),
        ("'/home/ann' is not '/opt/x'", "'~' is not '/opt/x'"),
    ],
)
def test_no_home_of_anybody(text: str, expected: str) -> None:
    assert without_private(text) == expected


def test_this_users_own_home_is_hidden_wherever_it_is(tmp_path: Path) -> None:
    assert without_private(f"{tmp_path}/home/x, {tmp_path}/homework") == f"~/x, {tmp_path}/homework"
    models = tmp_path / "home" / "models"
    models.mkdir()
    (models / "taesd_decoder.pth").write_bytes(b"PK")
    assert "~/models" in diagnose([models]).problems[0]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A place outside of the home, the name of which is nobody's business."""
    folder = tmp_path / "My Secret Project"
    folder.mkdir()
    return folder


def test_folders_outside_the_home_are_numbered(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secret / "taesd_decoder.pth").write_bytes(b"<html>")
    (secret / "models" / "VAE-taesd").mkdir(parents=True)
    (secret / "models" / "VAE-taesd" / "taesdxl_decoder.pth").write_bytes(b"PK")
    (secret / "work").mkdir()
    monkeypatch.chdir(secret / "work")
    monkeypatch.setenv("TAESD_MODELS", str(secret / "absent"))
    errors = [f"Cannot write '{secret / 'work' / 'config.json'}'.", f"{secret}/models/VAE-taesd/x.pth is bad"]
    diagnosis = diagnose([secret], errors=errors)
    assert "Secret" not in diagnosis.text
    assert str(secret / "taesd_decoder.pth") in "".join(diagnosis.problems), "the person there needs the place"
    for words in (
        "<models 1>: there", "<models 2>: not there", "<models 3>: there", "<models 1>/taesd_decoder.pth is not a read",
        "<models 3>/taesdxl_decoder.pth is not a read", "'<working folder>/config.json'", "<models 3>/x.pth is bad",
        "<models 2> is named in TAESD_MODELS but is not a folder",
    ):  # fmt: skip
        assert words in diagnosis.text, words


def test_links_and_relative_names_are_numbered_too(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secret / "taesd_decoder.pth").write_bytes(b"<html>")
    link, relative = tmp_path / "linked", Path("..") / secret.name
    link.symlink_to(secret, target_is_directory=True)
    text = diagnose([link], errors=[f"{link}/a.pth, that is {secret}/a.pth"]).text
    assert "<models 1>/a.pth, that is <models 1>/a.pth" in text
    monkeypatch.setenv("TAESD_MODELS", str(relative))
    for models in ([relative], []):
        text = diagnose(models).text
        assert "Secret" not in text
        assert "<models 1>/taesd_decoder.pth" in text


def test_the_terminal_names_no_place_either(
    secret: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    (secret / "taesd_decoder.pth").write_bytes(b"<html>")
    save_file(random_weights(tiny.Decoder(4)), secret / "taesd.safetensors")
    assert main(["doctor", "--models", str(secret), "--models", str(secret / "absent")]) == 1
    shown = capsys.readouterr()
    assert "<models 2> was given but is not a folder" in shown.out
    assert "Secret" not in shown.out + shown.err + caplog.text


def test_only_a_large_file_is_called_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "taesd_decoder.pth").write_bytes(b"<html>")
    assert "too large" not in diagnose([tmp_path / "work"]).text
    monkeypatch.setattr(doctor_files, "HASH_UP_TO", 3)
    assert "too large" in diagnose([tmp_path / "work"]).text
