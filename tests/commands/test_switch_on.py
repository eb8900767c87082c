"""`doctor --fix`: a WebUI's config.json gets live previews by TAESD, and nothing else of it changes."""

import json
from pathlib import Path

import pytest

from taesd_ext.cli import main
from taesd_ext.commands import switch_on as switch_on_module
from taesd_ext.commands.switch_on import (
    ENABLED,
    METHOD,
    PERIOD,
    REFRESH,
    TAESD,
    find_config,
    needed_changes,
    read_config,
    switch_on,
)
from taesd_ext.errors import TaesdError

OTHERS = {"samples_format": "jpg", "prompt": "日本語", PERIOD: 10}


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    for name in ("modules", "extensions/taesd"):
        (tmp_path / "webui" / name).mkdir(parents=True)
    return tmp_path / "webui"


def test_only_what_stands_in_the_way_is_changed(webui: Path) -> None:
    config = webui / "config.json"
    config.write_text(json.dumps({**OTHERS, METHOD: "Approx NN"}), encoding="utf-8")
    config.chmod(0o640)

    lines = switch_on(config)
    after = read_config(config)
    changes = needed_changes(OTHERS)
    assert after == {**OTHERS, **changes}
    assert after[METHOD] == TAESD
    assert len(lines) == len(changes)
    assert config.stat().st_mode & 0o777 == 0o640
    assert switch_on(config) == []
    assert [path.name for path in webui.glob("*config*")] == ["config.json"]


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({METHOD: "TAESD", PERIOD: 1, REFRESH: 200}, set()),
        ({METHOD: "RGB", PERIOD: 1, REFRESH: 500}, {METHOD}),
        ({}, {METHOD, PERIOD, REFRESH}),
        ({METHOD: "TAESD", PERIOD: -1, REFRESH: 500, ENABLED: False}, {PERIOD, ENABLED}),
    ],
)
def test_what_is_needed(settings: dict, changed: set[str]) -> None:
    assert set(needed_changes(settings)) == changed
    assert needed_changes({**settings, **needed_changes(settings)}) == {}


def test_the_webui_is_given_or_found(webui: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = webui.resolve() / "config.json"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaesdError):
        find_config()
    with pytest.raises(TaesdError):
        find_config(tmp_path)
    assert find_config(webui) == find_config(config) == config
    monkeypatch.setattr(switch_on_module, "_EXTENSION", webui.resolve() / "extensions" / "taesd")
    assert find_config() == config


def test_a_file_that_is_no_config_is_left_as_it_is(webui: Path) -> None:
    for content in ("{half", "[1]", ""):
        (webui / "config.json").write_text(content)
        with pytest.raises(TaesdError):
            switch_on(webui / "config.json")
        assert (webui / "config.json").read_text() == content


def test_the_command_changes_it(webui: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--fix", str(webui)]) == 0
    assert f"{METHOD}: not set -> {TAESD}" in capsys.readouterr().out
    assert read_config(webui / "config.json")[METHOD] == TAESD
