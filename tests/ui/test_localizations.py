"""README's table of settings and the keys of the translations are what docs/make_tables.py makes of the texts."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def make_tables():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_out_of_date_or_untranslated(make_tables, capsys):
    assert make_tables.main("--check") == 0, capsys.readouterr().out


def test_what_is_out_of_date_is_found(make_tables, monkeypatch, capsys):
    texts = [*make_tables.shown_texts(), "a new text"]
    monkeypatch.setattr(make_tables, "shown_texts", lambda: texts)
    assert make_tables.main("--check") == 1
    assert "a new text" in capsys.readouterr().out


def test_there_are_chinese_and_another_language_in_other_words():
    """A translation left in English would pass as one otherwise."""
    tables = {path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "localizations").glob("*.json")}
    assert len(tables.keys() | {"zh_CN"}) == len(tables) >= 2
    for table in tables.values():
        assert sum(text == translated for text, translated in table.items()) < len(table) / 8
