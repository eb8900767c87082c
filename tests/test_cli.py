"""The command line's manners: exit codes, one-line errors, and that help needs no heavy import."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from taesd_ext.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_two_functions(name: str) -> None:
    module = importlib.import_module(COMMANDS[name][0])
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_help_lists_every_command(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["no-such-command"], ["decode"], ["encode", "--no-such-option"]])
def test_misuse_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_no_command_prints_help(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_an_error_is_one_line(capsys: pytest.CaptureFixture, tmp_path) -> None:
    missing = tmp_path / "missing.png"
    code = main(["encode", str(missing), "-o", str(tmp_path / "out.png"), "--models", str(tmp_path)])
    assert code == 1
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("taesd_ext: ")
    assert "\n" not in shown


def test_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "taesd_ext", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.strip()
