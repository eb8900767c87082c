"""The command line's manners: exit codes, one-line errors, and that help needs no heavy import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taesd_ext import cli
from taesd_ext.cli import COMMANDS, main
from taesd_ext.commands.packages import NEEDED

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("line", [
    "no-such-command", "decode", "bench --no-such-option", "demo --port 99999", "demo --port -1", "learn --threads 0",
    "learn --latents -3", "bench --rounds 0", "compare a.png -o out --side 0", "encode a.png -o out --workers no",
    "encode a.png --shard 5/4", "export -o out --size 64",
])  # fmt: skip
def test_misuse_is_exit_code_2_and_names_the_value(line: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert line.split()[-1] in capsys.readouterr().err


def test_no_command_prints_help(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


@pytest.fixture
def bare_python(tmp_path):
    """Runs the command line with the standard library alone."""
    python = Path(getattr(sys, "_base_executable", "") or sys.executable)
    if subprocess.run([python, "-ISc", "import torch"], capture_output=True).returncode == 0:
        pytest.skip("needs a Python that has no torch outside of its site-packages")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [python, "-S", "-m", "taesd_ext", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_a_stranger_sees_every_command_without_any_package(bare_python) -> None:
    done = bare_python("--help")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["encode", "a.png", "-o", "b.png"], ["demo"]])
def test_missing_packages_are_named_with_their_cure(arguments: list[str], bare_python) -> None:
    done = bare_python(*arguments)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"lacks {', '.join(NEEDED.values())}." in done.stderr
    assert "make demo" in done.stderr


def test_the_doctor_reports_without_any_package(bare_python, tmp_path) -> None:
    done = bare_python("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    titles = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert titles == ["Versions:", "Host:", "Last errors:", "Timings:", "To do:"]
    assert all(f"pip install {name}" in done.stdout for name in NEEDED.values())
    (tmp_path / "config.json").write_text("{}")
    assert bare_python("doctor", "--fix").returncode == 0
    assert "TAESD" in (tmp_path / "config.json").read_text()


def test_a_mistake_of_our_own_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "doctor", ("taesd_ext.commands.no_such_module", "..."))
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


def run_as(raised: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that raises this while it is imported."""

    def import_module(name: str) -> None:
        raise raised

    monkeypatch.setattr(cli.importlib, "import_module", import_module)
    return main(["decode", "x", "-o", "y"])


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (OSError(28, "No space left on device", "out/a.png"), "Cannot use out/a.png: No space left on device."),
        (OSError("odd"), "odd"),
        (UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed"), "surrogates not allowed"),
        (ImportError("libgomp.so.1: no such file", name="torch._C"), "libgomp.so.1"),
    ],
)
def test_whatever_the_system_refuses_is_one_line(
    raised: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run_as(raised, monkeypatch) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_stopped_while_importing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run_as(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == "taesd_ext: stopped.\n"


def test_names_that_the_terminal_cannot_show(tmp_path) -> None:
    folder = tmp_path / "モデル"
    folder.mkdir()
    command = [sys.executable, "-m", "taesd_ext", "weights", "list", "--models", str(folder)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="cp1252", env=environment)
    assert done.returncode == 0, done.stderr
    assert r"\u30e2\u30c7\u30eb" in done.stdout


def test_names_of_the_package_without_an_import() -> None:
    import taesd_ext

    assert set(taesd_ext.__all__) <= set(dir(taesd_ext))
    assert all(hasattr(taesd_ext, name) for name in taesd_ext.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = taesd_ext.nonsense
