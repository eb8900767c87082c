"""The README says what is: settings, families, files that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taesd_ext.latent_formats import FAMILIES
from taesd_ext.settings import OPTIONS, Option

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_settings_table_is_the_options_table(option: Option) -> None:
    text = option.help[0].upper() + option.help[1:]
    assert f"| {option.label} | `{option.name}` | {shown(option.default)} | {text} |" in README


def test_the_settings_table_has_no_other_rows() -> None:
    table = README.partition("| Setting | Key |")[2].partition("\n\n")[0]
    assert len(table.splitlines()) - 2 == len(OPTIONS)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_named(family: str) -> None:
    assert f"`{family}`" in README


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?://|#)([^)]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target.partition("#")[0]).exists(), target
