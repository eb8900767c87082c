"""The options as the host's Settings tab shows and stores them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shown_texts import shown_texts

from taesd_ext.settings import OPTIONS

LOCALIZATIONS = sorted((Path(__file__).resolve().parents[2] / "localizations").glob("*.json"))


@pytest.mark.parametrize("path", LOCALIZATIONS, ids=lambda path: path.stem)
def test_label_and_help_are_translated_where_the_host_shows_them(host, path):
    table = json.loads(path.read_text(encoding="utf-8"))
    for option in OPTIONS:
        info = host.opts.data_labels[option.key]
        assert info.label in table
        assert [text for text in shown_texts(info.comment_after) if text not in table] == ["(", ")"]
