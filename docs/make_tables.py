"""Write what follows from the options and texts: the table of settings, and the keys of localizations/*.json.

    python docs/make_tables.py [--check]

A text without a translation gets "" for one, and is named; with ``--check`` nothing is written. Exit status 1 where
anything differs or is missing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from taesd_ext.settings import OPTIONS, Option  # noqa: E402 - this folder need not be installed
from taesd_ext.ui import texts  # noqa: E402

HEAD = "| Setting | Key | Default | What it does |\n|---|---|---|---|\n"
UNTRANSLATED = {"TAESD", "PSNR", "SSIM"}


def settings_table() -> str:
    def row(option: Option) -> str:
        default = option.default
        shown = ("on" if default else "off") if isinstance(default, bool) else f"{default:g}" if isinstance(
            default, float) else default  # fmt: skip
        return f"| {option.label} | `{option.name}` | {shown} | {option.help[0].upper()}{option.help[1:]} |\n"

    return HEAD + "".join(map(row, OPTIONS))


def shown_texts() -> list[str]:
    """Every text of the panel, the options and the accordion that stands by itself, in order, each once."""
    return [text for text in dict.fromkeys(_texts()) if text and text not in UNTRANSLATED]


def _texts() -> Iterator[str]:
    for name, value in vars(texts).items():
        if isinstance(value, texts.Text) or (name.isupper() and isinstance(value, tuple)):
            yield from value
        elif name.isupper() and isinstance(value, str):
            yield value
    for option in OPTIONS:
        yield from (option.label, option.help)
    accordion = (ROOT / "taesd_ext" / "host" / "accordion.py").read_text(encoding="utf-8")
    yield from re.findall(r'(?:label=|info=|TITLE = |AS_SET = )"([^"]+)"', accordion)


def outputs() -> dict[Path, str]:
    """File -> what it should hold."""
    rows = re.compile(re.escape(HEAD) + r"(\|.*\n)*")
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
    made = {path: rows.sub(lambda _match: settings_table(), text) for path, text in pages.items() if HEAD in text}
    for path in sorted((ROOT / "localizations").glob("*.json")):
        known = json.loads(path.read_text(encoding="utf-8"))
        table = {text: known.get(text, "") for text in shown_texts()}
        made[path] = json.dumps(table, ensure_ascii=False, indent=2) + "\n"
    return made


def main(*arguments: str) -> int:
    failed = False
    for path, wanted in outputs().items():
        if path.suffix == ".json":
            for text in (text for text, translated in json.loads(wanted).items() if not translated):
                failed = True
                print(f"{path.name} lacks: {text}")
        if path.read_text(encoding="utf-8") != wanted:
            if "--check" in arguments:
                failed = True
                print(f"{path.name} is not as docs/make_tables.py makes it")
            else:
                path.write_text(wanted, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
