"""`weights list` and `weights verify`: damaged files are shown, and folders that are not there are said."""

import json
from pathlib import Path

import pytest
from PIL import Image
from random_weights import random_weights
from safetensors.torch import save_file

from taesd_ext.cli import main
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.registry import CodecRegistry
from taesd_ext.errors import TaesdError
from taesd_ext.models import tiny
from taesd_ext.weights.installed import installed

DAMAGE = {"empty": lambda data: b"", "page": lambda data: b"<html>log in</html>", "cut": lambda data: data[:5000]}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    save_file(random_weights(tiny.Decoder(4)), folder / "taesd_decoder.safetensors")
    return folder


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("action", ["list", "verify"])
def test_a_damaged_file_is_shown_with_its_error(
    models: Path, how: str, action: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["weights", action, "--models", str(models)]) == 0
    damage(models / "taesd_decoder.safetensors", how)
    capsys.readouterr()
    assert main(["weights", action, "--models", str(models)]) == 1
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if "taesd_decoder.safetensors" in line)
    assert "unreadable" in line
    assert "is not a readable weight file" in line
    if action == "list":
        assert "taesd is missing its encoder and decoder" in shown


def test_a_family_is_served_by_a_readable_file_only(models: Path, capsys: pytest.CaptureFixture) -> None:
    damage(models / "taesd_decoder.safetensors", "cut")
    assert installed([models]) == {}
    save_file(random_weights(tiny.Decoder(4)), models / "taesd.safetensors")
    assert installed([models]) == {"taesd": {"decoder": models / "taesd.safetensors"}}
    assert main(["weights", "list", "--json", "--models", str(models)]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["families"]["taesd"] == {"encoder": None, "decoder": str(models / "taesd.safetensors")}
    assert {Path(file["path"]).name: file["state"] for file in shown["files"]} == {
        "taesd.safetensors": "unverified", "taesd_decoder.safetensors": "unreadable",
    }  # fmt: skip


@pytest.mark.parametrize("command", [
    "weights list", "weights verify", "encode x.png -o made.latent.png", "export --family taesd -o x.safetensors",
    "compare x.png -o made", "bench --sizes 64",
])  # fmt: skip
@pytest.mark.parametrize("given", ["absent", "a file"])
def test_a_given_folder_that_is_not_there_is_an_error(
    models: Path, given: str, command: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAESD_MODELS", str(models))
    Path("a file").write_bytes(b"")
    Image.new("RGB", (64, 64)).save("x.png")
    assert main([*command.split(), "--models", given]) == 1
    shown = capsys.readouterr().err
    assert f"{given} is not a folder of weights" in shown
    assert {path.name for path in Path().iterdir()} <= {"a file", "x.png", "made"}


def test_a_hosts_folder_may_be_there_later(models: Path, tmp_path: Path) -> None:
    with pytest.raises(TaesdError, match="is not a folder of weights: it does not exist"):
        load_codec("taesd", models_dir=tmp_path / "later")
    registry = CodecRegistry(lambda: [tmp_path / "later", models])
    assert registry.get("taesd").has_decoder
    registry = CodecRegistry(lambda: [tmp_path / "later"])
    assert registry.get("taesd").source.embedded == ("encoder", "decoder")
    models.rename(tmp_path / "later")
    assert registry.get("taesd").source.decoder, "the files take the embedded codec's place at once"
