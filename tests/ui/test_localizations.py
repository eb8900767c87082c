"""Each label and each line of help has its translation, and no file keeps one that nothing shows any more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taesd_ext.settings import OPTIONS
from taesd_ext.ui import texts

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "localizations").glob("*.json"))
UNTRANSLATED = {"TAESD", "PSNR", "SSIM"}


def shown_texts() -> set[str]:
    found: set[str] = set()
    for name, value in vars(texts).items():
        if isinstance(value, texts.Text):
            found |= {text for text in value if text}
        elif name.isupper() and isinstance(value, str):
            found.add(value)
        elif name.isupper():
            found |= set(value)
    found |= {text for option in OPTIONS for text in (option.label, option.help)}
    return found - UNTRANSLATED


def test_there_are_chinese_and_another_language():
    assert "zh_CN" in {path.stem for path in FILES}
    assert len(FILES) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_text_is_translated(path):
    table = json.loads(path.read_text(encoding="utf-8"))
    missing = shown_texts() - set(table)

    assert not missing
    assert all(isinstance(text, str) and text.strip() for text in table.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_translation_is_left_over(path):
    accordion = (ROOT / "taesd_ext" / "host" / "accordion.py").read_text(encoding="utf-8")
    table = json.loads(path.read_text(encoding="utf-8"))

    assert [text for text in table if text not in shown_texts() and f'"{text}"' not in accordion] == []
