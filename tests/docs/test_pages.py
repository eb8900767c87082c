"""The pages say what is: links, families, settings, commands and their flags, routes."""

import argparse
import re
from pathlib import Path

import pytest

from taesd_ext import cli
from taesd_ext.latent_formats import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def headings(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_flags_are_there(page: Path) -> None:
    for name, rest in re.findall(r"python -m taesd_ext ([a-z]+)([^`\n]*)", page.read_text(encoding="utf-8")):
        assert name in cli.COMMANDS
        known = flags_of(name)
        for flag in re.findall(r"(?<=\s)--?[a-z][\w-]*", rest):
            assert flag in known, f"{name} has no {flag}"


def flags_of(command: str) -> set[str]:
    subcommands = next(
        action for action in cli._parser(command)._actions if isinstance(action, argparse._SubParsersAction)
    )
    return {flag for action in subcommands.choices[command]._actions for flag in action.option_strings}


def test_readme_leads_to_every_page() -> None:
    for page in PAGES:
        if page.parent.name == "docs" and page.name != "experiments.md":
            assert f"(docs/{page.name})" in text_of("README.md")


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_named(family: str) -> None:
    assert f"`{family}`" in text_of("docs/models.md")


def test_routes_are_listed() -> None:
    source = text_of("taesd_ext/host/api_routes.py")
    for path in re.findall(r'\("(/[\w{}/]+)", "(?:GET|POST)"', source):
        assert f"{path}`" in text_of("docs/api.md")
