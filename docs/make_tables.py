"""Write what follows from the code: the tables of settings, models and the history, and the keys of localizations/*.json.

    python docs/make_tables.py [--check]

A text without a translation gets "" for one, and is named; with ``--check`` nothing is written. Exit status 1 where
anything differs or is missing.
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - this folder need not be installed

from taesd_ext.codec.previewer import has_previewer  # noqa: E402
from taesd_ext.commands.compare_page import COLUMNS  # noqa: E402
from taesd_ext.latent_formats import LATENT_FORMATS, LatentFormat, ModelEvidence, detect, native_format  # noqa: E402
from taesd_ext.models.latent_rgb import LATENT_RGB  # noqa: E402
from taesd_ext.preview.frame import Frame, PreviewImage  # noqa: E402
from taesd_ext.preview.job_history import JobHistory  # noqa: E402
from taesd_ext.settings import OPTIONS, Option  # noqa: E402

SETTINGS = "| Setting | Key | Default | What it does |\n|---|---|---|---|\n"
MODELS = "| Model | Latent | Told by | Tiny decoder | Without a file | After one finished picture |\n|---|---|---|---|---|---|\n"
HISTORY = "| Job | 4 channels | 4 channels and previews | 16 channels |\n|---|---|---|---|\n"
HISTORY_JOBS, HISTORY_STEPS, PREVIEW_BYTES = 8, 40, 100_000
UNTRANSLATED = {"TAESD", "PSNR", "SSIM"}
PAGES = (ROOT / "javascript" / "taesd_ext.js", ROOT / "taesd_ext" / "data" / "second_screen.html")
SHOWN_FIRST = {"Accordion", "Button", "Tab", "file_box", "heading", "notice", "small_button", "table"}
"""Functions whose first argument is shown."""
SHOWN_KEYWORDS = {"label", "info", "empty", "button"}


def settings_table() -> str:
    def row(option: Option) -> str:
        shown = ("off", "on")[option.default] if option.kind == "bool" else f"{option.default}".removesuffix(".0")
        return f"| {option.label} | `{option.name}` | {shown} | {option.help[0].upper()}{option.help[1:]} |\n"

    return SETTINGS + "".join(map(row, OPTIONS))


def models_table() -> str:
    def row(model: LatentFormat) -> str:
        latent = f"{model.latent_channels} channels at 1/{model.spatial_scale_factor}{', film' if model.frames else ''}"
        decoders = _code(name for name in (model.family, *model.other_decoders) if name)
        embedded, identity = has_previewer(model.name), model.spatial_scale_factor == 1
        rough = "embedded previewer" if embedded else "linear RGB" if model.rgb in LATENT_RGB else "shapes in greys"
        learnt = "the same" if embedded else "the same, it is exact" if identity else "what was learnt from it"
        return f"| {model.title} | {latent} | {_told_by(model)} | {decoders or '-'} | {rough} | {learnt} |\n"

    return MODELS + "".join(map(row, LATENT_FORMATS))


def _told_by(model: LatentFormat) -> str:
    """The names that a WebUI has for it, of its latents, its decoder or its kind, and the shape that it alone has."""
    decoders = (name for name in (model.family, *model.other_decoders) if name and native_format(model.family) is model)
    told = _code((*model.host_names, *model.flags, *decoders))
    alone = detect(ModelEvidence(channels=model.latent_channels, frames=model.frames)).format is model
    return f"{told}, its shape" if alone else told


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


@cache
def history_table() -> str:
    """What is left of jobs of 1024 px within the default bound, the newest first."""
    kept = [_steps_kept(*kind) for kind in ((4, False), (4, True), (16, False))]
    rows = zip(range(HISTORY_JOBS, 0, -1), *kept, strict=True)
    return HISTORY + "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def _steps_kept(channels: int, previews: bool) -> list[str]:
    history, picture = JobHistory(), PreviewImage("jpeg", bytes(PREVIEW_BYTES))
    latent = torch.zeros(1, channels, 128, 128, dtype=torch.float16)
    for _ in range(HISTORY_JOBS):
        job = history.begin(steps=HISTORY_STEPS)
        for step in range(1, HISTORY_STEPS + 1):
            history.add_latents(job, step, HISTORY_STEPS, latent, None)
            if previews:
                history.add_frame(job, Frame(step, step, picture, (1024, 1024), "full", None, 0.0))
        history.add_finished(job, latent, None)
    return [_counted(sorted(job.moments)) for job in history.jobs()]


def _counted(steps: list[int]) -> str:
    """How many, and which: "5: 1-3, 7, 9"."""
    if len(steps) == HISTORY_STEPS:
        return "all"
    runs = (list(run) for _, run in groupby(enumerate(steps), lambda placed: placed[1] - placed[0]))
    ends = ([step for _, step in (run[0], run[-1])] for run in runs)
    return f"{len(steps)}: " + ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


TABLES = {SETTINGS: settings_table, MODELS: models_table, HISTORY: history_table}


def shown_texts() -> list[str]:
    """Every text of the panel, the options, the accordion, the badge and the second screen, each once."""
    sources = [*sorted((ROOT / "taesd_ext" / "ui").glob("*.py")), ROOT / "taesd_ext" / "host" / "accordion.py"]
    found = [text for path in sources for text in _texts(ast.parse(path.read_text(encoding="utf-8")))]
    found += [text for path in PAGES for text in re.findall(r'say\("(.+?)"\)', path.read_text(encoding="utf-8"))]
    found += [text for option in OPTIONS for text in (option.label, option.help)]
    found += [title for title, *_ in COLUMNS]
    return [text for text in dict.fromkeys(found) if text and text not in UNTRANSLATED]


def _texts(tree: ast.Module) -> Iterator[str]:
    """What a source file shows: constants of several words, and what controls and notices are given as they are."""
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = node.args[:1] if name in SHOWN_FIRST else []
            given += [keyword.value for keyword in node.keywords if keyword.arg in SHOWN_KEYWORDS]
            if name == "TaesdError" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
                yield f"{node.args[0].value}."
        elif isinstance(node, ast.Dict):
            given = [value for key, value in zip(node.keys, node.values, strict=True)
                     if isinstance(key, ast.Constant) and key.value in SHOWN_KEYWORDS]  # fmt: skip
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper():
            given = [node.value] if re.search(r"[ .]", str(getattr(node.value, "value", ""))) else []
        for value in given:
            for part in value.elts if isinstance(value, ast.Tuple) else [value]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value[:1].isalnum():
                    yield part.value


def outputs() -> dict[Path, str]:
    """File -> what it should hold."""
    made = {path: _with_tables(path.read_text(encoding="utf-8")) for path in (ROOT / "docs").glob("*.md")}
    for path in sorted((ROOT / "localizations").glob("*.json")):
        known = json.loads(path.read_text(encoding="utf-8"))
        table = {text: known.get(text, "") for text in shown_texts()}
        made[path] = json.dumps(table, ensure_ascii=False, indent=2) + "\n"
    return made


def _with_tables(page: str) -> str:
    for head, table in TABLES.items():
        page = re.sub(re.escape(head) + r"(\|.*\n)*", lambda _match, table=table: table(), page)
    return page


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
